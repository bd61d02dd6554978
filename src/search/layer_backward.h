#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "engine/cluster.h"
#include "search/candidate_stage.h"
#include "search/score_unit.h"

namespace halftone {

// Takes units back through one layer: recomputes it, scores every candidate of its groups and
// turns the gradients of the layer's outputs into those of its inputs.
//
// A layer with experts goes in three phases, so that it may come in parts: begin() computes up to
// the experts, add_experts() goes forth and back through some of them (their outputs are summed, so
// all have the same gradient), finish() goes back through the rest. Others need finish() alone.
class LayerBackward {
 public:
  // candidates[c]: null where no group of the stage may have it.
  LayerBackward(const Model& model, size_t stage, const StageGroups& groups,
                const std::vector<std::optional<CandidateStage>>& candidates, ScoreRule rule,
                const Cluster& cluster);

  // Of a unit that is under way in a layer with experts.
  struct ExpertWork {
    ExpertStates begun;
    at::Tensor d_sum, d_residual, d_shared;
    at::Tensor d_x, d_weights;               // of the experts so far
    at::Tensor sum_TH;                       // F32: what they give
    std::vector<at::Tensor> candidate_sums;  // [candidate]
  };
  ExpertWork begin(const ScoreUnit& unit, const StageWeights& weights) const;
  void add_experts(const ScoreUnit& unit, const StagePart& part, const StageWeights& weights,
                   ExpertWork& work) const;
  // `work`: one a unit, empty for a layer without experts. Units are computed concurrently on the
  // CPU, and each quantized weight is read back once for all of them.
  void finish(std::vector<ScoreUnit>& units, std::vector<ExpertWork>& work,
              const StageWeights& weights) const;

 private:
  struct Tapped {
    std::vector<at::Tensor> inputs, outputs, gradients;  // per linear
  };
  Tapped go_back(ScoreUnit& unit, const ExpertWork* work, const StageWeights& weights) const;
  void score_experts(ScoreUnit& unit, const ExpertWork& work) const;
  void for_each(size_t count, const std::function<void(size_t)>& body) const;

  const Model& model_;
  size_t stage_;
  const StageGroups& groups_;
  const std::vector<std::optional<CandidateStage>>& candidates_;
  ScoreRule rule_;
  Cluster cluster_;
};

}  // namespace halftone
