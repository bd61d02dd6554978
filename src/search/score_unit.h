#pragma once

#include <vector>

#include "model/model.h"
#include "search/search_space.h"

namespace halftone {

// How the products of a gradient and a change of an output become a score.
enum class ScoreRule {
  // Sum of squares over elements (calibration.md, 9.4): Model Optimizer's.
  kElements,
  // Square of the sum over a row: what all elements of a sequence do to its loss together.
  kRows,
};

// The groups of a stage that are searched, and where their scores stand: group by group, one for
// each candidate but "none".
struct StageGroups {
  std::vector<const LinearGroup*> groups;
  size_t candidates = 0;  // of the space, without "none"

  StageGroups(const SearchSpace& space, size_t stage);
  size_t size() const { return groups.size() * candidates; }
  size_t place(size_t group, size_t candidate) const { return group * candidates + candidate; }
  // Whether some group may have the candidate.
  bool uses(size_t candidate) const;
};

// Some rows of a batch on their way back through a stage.
struct ScoreUnit {
  int64_t batch = 0;
  size_t position = 0;  // of the batch among this rank's
  int64_t begin = 0, end = 0;
  BatchContext context;  // of those rows
  States inputs;         // of the stage
  States gradients;      // of its outputs, then of its inputs; undefined where there are none
  // [place][row]: the rule's sums.
  std::vector<std::vector<double>> sums;

  // Adds what a candidate's change of an output ([rows, T, N], or [tokens, N] at `positions_T`
  // of all rows' positions; undefined: all) means. y in the compute dtype, as in the reference.
  void add(ScoreRule rule, size_t place, const at::Tensor& gradient, const at::Tensor& y,
           const at::Tensor& y_quantized, const at::Tensor& positions_T);
  // The scores of all rows; InputError naming the group that is not finite.
  std::vector<double> scores(ScoreRule rule, const StageGroups& groups) const;
};

}  // namespace halftone
