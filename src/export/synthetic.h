#pragma once

#include <vector>

#include "export/hf_layout.h"
#include "kernels/thread_pool.h"

namespace halftone {

// A checkpoint of random weights for benchmarks and trials: every tensor that the model reads, in
// `dtype` (those that keep F32 in F32).
struct SyntheticCheckpoint {
  HfLayout layout;
  Json config;  // of config.json
};

// `config` is what `model` was made of. max_shard_bytes as for plan_hf_export().
SyntheticCheckpoint plan_synthetic(const Model& model, Json config, DType dtype,
                                   int64_t max_shard_bytes);

// Writes the weights, their index and config.json into a folder that exists. The bytes follow from
// the plan and the seed alone.
void write_synthetic(const SyntheticCheckpoint& checkpoint, uint64_t seed, const fs::path& folder,
                     ThreadPool& pool);

}  // namespace halftone
