#pragma once

#include <vector>

#include "evaluate/layer_pass.h"

namespace halftone {

// How far a model's predictions are from a reference's, over all predicted tokens (those of
// evaluate_perplexity()).
struct Divergence {
  double mean = 0.0;  // of KL(reference || model) in nats, in FP32 per token
  double max = 0.0;
  double agreement = 0.0;  // share of tokens for which both think the same token most probable
  int64_t tokens = 0;
};

// A model with its weights, for tasks that need two.
struct Subject {
  const Checkpoint& checkpoint;
  Model& model;
  WeightSource& source;
};

// Both models read the same batches and have the same vocabulary (InputError). The result does not
// depend on the number of ranks. Collective.
Divergence evaluate_divergence(const Subject& reference, const Subject& subject,
                               const std::vector<Batch>& batches, const LayerPassOptions& options,
                               const Cluster& cluster);

}  // namespace halftone
