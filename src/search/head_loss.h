#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/cluster.h"
#include "search/candidate_stage.h"
#include "search/score_unit.h"
#include "text/batches.h"

namespace halftone {

// What the head's output is compared with.
enum class LossLabels {
  kData,   // the tokens that follow in the data
  kModel,  // tokens drawn from what the model itself predicts: the true Fisher information
};

struct LossOptions {
  LossLabels labels = LossLabels::kData;
  bool mean = true;            // over the predicted tokens of a batch; otherwise their sum
  bool count_padding = false;  // the first token is predicted from padding in front of it
  int64_t seed = 0;            // of drawn tokens
};

// The positions of a row whose next token is predicted: [begin, end).
TokenRange predicted_range(const TokenRange& tokens, bool count_padding);
// How many tokens of a batch are predicted.
int64_t predicted_tokens(const BatchContext& batch, bool count_padding);

// Takes units back from the cross entropy of the head's logits to the head's input, and scores the
// candidates of the head. Logits are there a piece at a time.
class HeadLoss {
 public:
  // candidate_weights[c]: those of the head's linear; undefined where the head may not have the
  // candidate. `batches`: of all ranks.
  HeadLoss(const Model& model, size_t stage, const StageGroups& groups,
           const std::vector<std::optional<CandidateStage>>& candidates,
           const std::vector<Batch>& batches, const LossOptions& options, ScoreRule rule,
           const Cluster& cluster);

  // Sets the unit's gradients. The sum of its tokens' losses; InputError where it is not finite.
  // May be called concurrently.
  double go_back(ScoreUnit& unit, const StageWeights& weights) const;

 private:
  struct Piece {
    int64_t row = 0;  // of the unit
    int64_t begin = 0, end = 0;
  };
  double go_back(ScoreUnit& unit, const Piece& piece, const StageWeights& weights,
                 const at::Tensor& d_x_BTH) const;
  at::Tensor labels(const ScoreUnit& unit, const Piece& piece, const at::Tensor& shares_TV) const;
  at::Tensor next_tokens(const ScoreUnit& unit, const Piece& piece) const;

  const Model& model_;
  size_t stage_;
  const StageGroups& groups_;
  const std::vector<std::optional<CandidateStage>>& candidates_;
  const std::vector<Batch>& batches_;
  LossOptions options_;
  ScoreRule rule_;
  Cluster cluster_;
  std::vector<at::Tensor> candidate_weights_;  // [candidate]
};

}  // namespace halftone
