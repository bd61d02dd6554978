#pragma once

#include <vector>

#include "evaluate/layer_pass.h"

namespace halftone {

struct Perplexity {
  double value = 0.0;  // exp(nll)
  double nll = 0.0;    // mean over all predicted tokens of all rows
  int64_t tokens = 0;
};

// Every real token behind a row's first is predicted from those before it; logits and the sums are
// FP32 and FP64. Rows should be padded on the right. The result does not depend on the number of
// ranks. Collective.
Perplexity evaluate_perplexity(const Checkpoint& checkpoint, Model& model, WeightSource& source,
                               const std::vector<Batch>& batches, const LayerPassOptions& options,
                               const Cluster& cluster);

}  // namespace halftone
