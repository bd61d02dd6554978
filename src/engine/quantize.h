#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/packer.h"
#include "io/statistics_store.h"
#include "text/batches.h"

namespace halftone {

struct QuantizeOptions {
  DType compute_dtype = DType::kBF16;
  Numerics numerics = Numerics::kCpu;
  bool count_padding = false;
  bool overwrite = false;
  int64_t max_shard_bytes = 10'000'000'000;
  int64_t write_queue_bytes = int64_t{256} << 20;
  bool show_progress = true;
};

struct Phase {
  double seconds = 0.0;
  int64_t bytes = 0;
};

struct QuantizeResult {
  std::map<std::string, Phase> phases;
  // Per target in the order given, merged over all ranks; on rank 0 only.
  std::vector<LinearRecords> records;
};

// The statistics that a run leaves for others: one entry per stage.
using ModelStatistics = std::vector<StageStatistics>;

// Whether some target needs the activations of the calibration data.
bool needs_forward(const std::vector<Target>& targets);

// Plans all targets of a run; refuses what cannot work before a weight is read.
Target make_target(const Checkpoint& checkpoint, const Model& model, const Recipe& recipe,
                   const fs::path& out, int64_t max_shard_bytes);

// The pass of design.md, section 2: load, observe, reduce, solve, pack and write, advance, stage by
// stage, for all targets at once. `batches` may be empty when needs_forward() says no. `store` is rank
// 0's and null elsewhere. Collective.
QuantizeResult quantize(const Checkpoint& checkpoint, Model& model,
                        const std::vector<Target>& targets, const std::vector<Batch>& batches,
                        StatisticsStore* store, const QuantizeOptions& options,
                        const Cluster& cluster);

}  // namespace halftone
