#include "engine/quantize.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <numeric>

#include "core/error.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/progress.h"
#include "dist/agreement.h"
#include "engine/device_memory.h"
#include "engine/stage_solver.h"
#include "engine/stage_times.h"
#include "engine/summary.h"
#include "engine/target_solver.h"
#include "export/staged_output.h"

namespace halftone {
namespace {

using Clock = std::chrono::steady_clock;

// Space for all outputs, asked before anything is written.
void check_free_space(const std::vector<Target>& targets, const fs::path& folder) {
  int64_t needed = 0;
  for (const Target& target : targets) {
    for (const auto& file : target.hf.layout.files) needed += file.layout.file_bytes;
  }
  const int64_t free = free_bytes(folder);
  if (free < needed) {
    throw ResourceError(concat("'", folder.string(), "' has ", free,
                               " bytes free, but the output needs ", needed,
                               ": free some space or choose another --out"));
  }
}

int64_t sum_over_ranks(int64_t value, Communicator& ranks) {
  ranks.all_reduce(&value, 1, DType::kI64, ReduceOp::kSum);
  return value;
}

int64_t max_over_ranks(int64_t value, Communicator& ranks) {
  ranks.all_reduce(&value, 1, DType::kI64, ReduceOp::kMax);
  return value;
}

// Every rank's records.
LinearRecords gather_records(const LinearRecords& mine, Communicator& ranks) {
  LinearRecords all;
  for (const std::string& text : gather_texts(ranks, Json(mine).dump())) {
    const Json part = Json::parse(text);
    for (const auto& [name, record] : part.items()) all[name] = record;
  }
  return all;
}

int64_t elements_of(const StoredTensor& tensor) {
  return std::accumulate(tensor.shape.begin(), tensor.shape.end(), int64_t{1}, std::multiplies<>());
}

// The source's weights, tied ones once; what low bits stand for, not how they are packed.
int64_t elements_of(const SourceLayout& source) {
  std::map<std::string, int64_t> elements;
  for (const std::vector<StoredTensor>& stage : source.stages()) {
    for (const StoredTensor& tensor : stage) elements[tensor.name] = elements_of(tensor);
  }
  for (const StoredTensor& tensor : source.extra()) elements[tensor.name] = elements_of(tensor);
  int64_t sum = 0;
  for (const auto& [name, count] : elements) sum += count;
  return sum;
}

QuantizeResult::Output describe(const Target& target, const SourceLayout& source,
                                const LinearRecords& records) {
  QuantizeResult::Output output;
  output.format = target.plan.recipe.name;
  output.dir = target.out;
  output.bytes = target.hf.layout.total_bytes;
  output.bits_per_weight =
      8.0 * static_cast<double>(output.bytes) / static_cast<double>(elements_of(source));
  for (const auto& [name, record] : records)
    output.fallbacks += record.contains("fallback") ? 1 : 0;
  return output;
}

}  // namespace

bool needs_forward(const Model& model, const std::vector<Target>& targets) {
  std::vector<const TargetPlan*> plans;
  for (const Target& target : targets) plans.push_back(&target.plan);
  const auto observe = what_to_observe(model, plans, /*complete=*/false);
  return std::any_of(observe.begin(), observe.end(),
                     [](const ObserveOptions& stage) { return stage.any(); });
}

Target make_target(const SourceLayout& source, const Model& model, const Recipe& recipe,
                   const fs::path& out, int64_t max_shard_bytes) {
  Target target{plan_target(model, recipe), {}, {}, out};
  target.hf = plan_hf_export(source, model, target.plan, max_shard_bytes);
  target.config = make_quant_config(model, target.plan, source);
  return target;
}

// What may wait to be written: half of the largest stage, so that a slow disk does not make memory
// grow with the number of layers.
int64_t write_queue_bytes(const SourceLayout& source) {
  constexpr int64_t kSmallest = int64_t{4} << 20;
  constexpr int64_t kLargest = int64_t{256} << 20;
  int64_t largest = 0;
  for (const std::vector<StoredTensor>& stage : source.stages()) {
    largest = std::max(largest, bytes_of(stage));
  }
  return std::clamp(largest / 2, kSmallest, kLargest);
}

CalibrationOptions calibration_options(const Model& model, const std::vector<Target>& targets,
                                       const QuantizeOptions& options) {
  CalibrationOptions calibration;
  calibration.compute_dtype = options.compute_dtype;
  calibration.count_padding = options.count_padding;
  calibration.observed_experts = options.observed_experts;
  calibration.stage_limit = options.stage_limit;
  calibration.show_progress = options.show_progress;
  if (options.from_store != nullptr) {
    calibration.observe.assign(model.stages().size(), ObserveOptions::nothing());
    return calibration;
  }
  std::vector<const TargetPlan*> plans;
  for (const Target& target : targets) {
    plans.push_back(&target.plan);
    if (target.plan.recipe.propagate == Recipe::Propagate::kQuantized) {
      calibration.propagate_quantized = true;
    }
  }
  calibration.observe = what_to_observe(model, plans, /*complete=*/true);
  return calibration;
}

QuantizeResult quantize(const SourceLayout& source, Model& model,
                        const std::vector<Target>& targets, const std::vector<Batch>& batches,
                        StatisticsStore* store, const QuantizeOptions& options,
                        const Cluster& cluster) {
  check_free_space(targets, options.out.parent_path());
  std::vector<HfWriter> writers;
  std::vector<StagePacker> packers;
  writers.reserve(targets.size());
  const DType dtype = source.dtype();
  const Checkpoint& checkpoint = source.checkpoint();
  WriteQueue queue(write_queue_bytes(source), cluster.trace);
  TargetSolver solver(
      model, targets,
      {dtype, options.compute_dtype, options.numerics, cluster, options.expert_floor},
      options.from_store);
  const StagedOutput staged(options.out);
  staged.begin(cluster.control);
  for (const Target& target : targets) {
    const fs::path folder = staged.partial() / target.out.lexically_relative(options.out);
    writers.emplace_back(folder.lexically_normal(), target.hf.layout, queue);
    writers.back().begin(cluster.control);
    packers.emplace_back(target, writers.back(), model, dtype, options.numerics, cluster);
  }

  const CalibrationTimes times = run_calibration(
      source, model, batches, calibration_options(model, targets, options), cluster,
      [&](const CalibratedStage& seen) { return solver.run(seen, packers, store); });

  const auto start = Clock::now();
  if (cluster.trace != nullptr) cluster.trace->set_stage(model.stages().size());
  QuantizeResult result;
  result.phases["load"] = {times.load_seconds, sum_over_ranks(times.bytes_read, cluster.control)};
  result.phases["forward"] = {times.forward_seconds, 0};
  result.phases["pack"] = {times.consume_seconds, 0};
  for (size_t t = 0; t < targets.size(); ++t) {
    packers[t].copy_extra(source);
    writers[t].complete(cluster.control, checkpoint, targets[t].config);
  }
  result.phases["write"] = {queue.seconds_writing(),
                            sum_over_ranks(queue.bytes_written(), cluster.control)};
  result.host_bytes = max_over_ranks(peak_host_bytes(), cluster.control);
  result.device_bytes = max_over_ranks(peak_device_bytes(cluster.device), cluster.control);
  std::vector<LinearRecords> records;
  for (size_t t = 0; t < targets.size(); ++t) {
    records.push_back(gather_records(packers[t].records(), cluster.control));
    for (const auto& [name, record] : solver.records(t)) records[t][name] = record;
    result.outputs.push_back(describe(targets[t], source, records[t]));
    result.outputs[t].digest = writers[t].digest(cluster.control);
  }
  result.times = stage_times(model, cluster);
  result.phases["finish"] = {seconds_since(start), 0};
  for (size_t t = 0; t < targets.size(); ++t) {
    const Json summary = make_summary(targets[t], result, t, records[t], options.resolved);
    writers[t].write_summary(cluster.control, summary.dump(2) + "\n");
  }
  staged.publish(cluster.control, options.overwrite);
  return result;
}

}  // namespace halftone
