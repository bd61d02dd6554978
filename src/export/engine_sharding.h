#pragma once

#include <string>
#include <vector>

#include "calibrate/target_plan.h"

namespace halftone {

// A size that tensor parallelism does not divide.
struct ShardFault {
  const char* rule;
  std::string module;
  std::string expected;
  std::string found;
};

// Of a layer that is served over `tp` GPUs: attention heads, and each linear's shards, which must
// be whole blocks of its format. tiles_at_one: tiles of FP8 must divide the weight even on one GPU.
std::vector<ShardFault> shard_faults(const StageSpec& stage, const StagePlan& plan, int64_t tp,
                                     bool tiles_at_one);

}  // namespace halftone
