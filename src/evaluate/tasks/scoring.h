#pragma once

#include <vector>

#include "evaluate/layer_pass.h"

namespace halftone {

// What a model says of some tokens of a row, given those in front of each.
struct RowScore {
  double log_probability = 0.0;  // natural logarithm, the sum over the tokens
  int64_t tokens = 0;
  bool greedy = false;  // there are tokens, and each is the most probable one in its place
};

// Scores the tokens [first[row], end) of each row of the batches, rows of all batches in order;
// positions count from the row's first real token, whose own probability nothing says (a first of 0
// is taken for 1). Rows should be padded on the right. Logits are FP32, sums FP64. What is said of
// a row does not depend on the number of ranks; all ranks get all rows. Logits that are not finite
// are an InputError. Collective.
std::vector<RowScore> score_rows(const Checkpoint& checkpoint, Model& model, WeightSource& source,
                                 const std::vector<Batch>& batches,
                                 const std::vector<int64_t>& first, const LayerPassOptions& options,
                                 const Cluster& cluster, const std::string& title);

}  // namespace halftone
