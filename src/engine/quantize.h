#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/calibration_pass.h"
#include "engine/memory_budget.h"
#include "engine/memory_model.h"
#include "engine/packer.h"
#include "engine/residency.h"
#include "engine/run_journal.h"
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
  Residency residency = Residency::kStream;
  // Statistics are taken on the weights as they are stored (needs kCompressed).
  bool calibrate_on_compressed = false;
  MemoryBudget budget;
  MemoryPlan predicted;  // for the summary
  bool overwrite = false;
  int64_t space_beside = 0;  // that must be free beside the targets, for what is made of them
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
  std::vector<Output> outputs;    // in the order of the targets; fallbacks are counted on rank 0
  size_t resumed_from_stage = 0;  // 0: from the beginning
  std::map<std::string, Phase> phases;
  Json times;              // stage_times()
  int64_t host_bytes = 0;  // the largest peak of all ranks
  int64_t device_bytes = 0;
  Residency residency = Residency::kStream;
  int64_t weights_held_bytes = 0;  // between passes; the most of all ranks
  MemoryPlan predicted;
  int64_t rows_per_call = INT64_MAX;  // the least of all ranks (BatchPass)
};

// Whether some target needs the activations of the calibration data.
bool needs_forward(const Model& model, const std::vector<Target>& targets);

// What the memory of the run follows from, but for what the caller adds: ranks, threads, gpu, base.
MemoryInputs memory_inputs(const SourceLayout& source, const Model& model,
                           const std::vector<Target>& targets, const BatchShape& batches,
                           const QuantizeOptions& options);

// Plans all targets of a run; refuses what cannot work before a weight is read.
Target make_target(const SourceLayout& source, const Model& model, const Recipe& recipe,
                   const fs::path& out, int64_t max_shard_bytes);

// The pass of design.md, section 2: load, observe, reduce, solve, pack and write, advance, stage by
// stage, for all targets at once. `batches` may be empty when needs_forward() says no, or with
// `from_store`. `journal` takes the statistics and makes the run resumable: it goes on where an
// interrupted one ended. Null: nothing is kept. Collective.
QuantizeResult quantize(const SourceLayout& source, Model& model,
                        const std::vector<Target>& targets, const std::vector<Batch>& batches,
                        RunJournal* journal, const QuantizeOptions& options,
                        const Cluster& cluster);

}  // namespace halftone
