#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/calibration_pass.h"
#include "engine/packer.h"
#include "io/statistics_store.h"
#include "text/batches.h"

namespace halftone {

struct QuantizeOptions {
  // The folder that appears when all targets are complete: the target's own, or their parent.
  fs::path out;
  DType compute_dtype = DType::kBF16;
  Numerics numerics = Numerics::kCpu;
  bool count_padding = false;
  double observed_experts = 0.0;    // BatchContext
  int64_t expert_floor = 1;         // SolveContext
  int64_t stage_limit = INT64_MAX;  // plan_loads
  bool overwrite = false;
  int64_t max_shard_bytes = 10'000'000'000;
  bool show_progress = true;
  // Statistics and search results of an earlier run, instead of a forward pass.
  const StatisticsStore* from_store = nullptr;
  Json resolved = Json::object();  // the configuration, as stored beside the result
};

struct Phase {
  double seconds = 0.0;
  int64_t bytes = 0;
};

struct QuantizeResult {
  struct Output {
    std::string format;
    fs::path dir;
    std::string digest;
    int64_t bytes = 0;             // of all tensors
    double bits_per_weight = 0.0;  // those bytes over the source's weights
    int64_t fallbacks = 0;
  };
  std::vector<Output> outputs;  // in the order of the targets
  std::map<std::string, Phase> phases;
  Json times;              // stage_times()
  int64_t host_bytes = 0;  // the largest peak of all ranks
  int64_t device_bytes = 0;
};

// Whether some target needs the activations of the calibration data.
bool needs_forward(const Model& model, const std::vector<Target>& targets);

// Plans all targets of a run; refuses what cannot work before a weight is read.
Target make_target(const SourceLayout& source, const Model& model, const Recipe& recipe,
                   const fs::path& out, int64_t max_shard_bytes);

// The pass of design.md, section 2: load, observe, reduce, solve, pack and write, advance, stage by
// stage, for all targets at once. `batches` may be empty when needs_forward() says no, or with
// `from_store`. `store` takes the statistics; it is rank 0's and null elsewhere. Collective.
QuantizeResult quantize(const SourceLayout& source, Model& model,
                        const std::vector<Target>& targets, const std::vector<Batch>& batches,
                        StatisticsStore* store, const QuantizeOptions& options,
                        const Cluster& cluster);

}  // namespace halftone
