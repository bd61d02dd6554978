#pragma once

#include <vector>

#include "app/options.h"
#include "engine/quantize.h"
#include "engine/weight_source.h"

namespace halftone {

// --memory-budget, --host-budget
void add_budget_options(Options& options);
// What a rank may use; auto: what is free, shared by the ranks of its host. Collective: the least
// of all ranks.
MemoryBudget memory_budget(const Options& options, const Cluster& cluster);

// Of the weights that all ranks together hold between passes.
int64_t held_bytes(Residency residency, const SourceLayout& source,
                   const std::vector<Target>& targets);

// Predicts what the run will need of memory and leaves it, and the budget, in `quantize`. A
// ResourceError with the smallest change that would do, before a weight is read, where the budget
// does not suffice. Collective.
void plan_memory(const SourceLayout& source, const Model& model, const std::vector<Target>& targets,
                 const BatchShape& batches, const Options& options, const Cluster& cluster,
                 QuantizeOptions& quantize);

// The same for an evaluation of these weights. Collective.
MemoryPlan plan_evaluation(const WeightSource& source, const Model& model, DType compute_dtype,
                           bool copies_weights, const BatchShape& batches, const Options& options,
                           const Cluster& cluster);
// {"predicted", "measured"}, logged by rank 0 too. Collective.
Json evaluation_memory(const MemoryPlan& predicted, const Cluster& cluster);

// One line for each kind of memory: what was predicted and what was measured.
void log_memory(const MemoryPlan& predicted, int64_t host_bytes, int64_t device_bytes);

}  // namespace halftone
