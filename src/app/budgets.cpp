#include "app/budgets.h"

#include <algorithm>

#include "app/run_setup.h"
#include "core/log.h"
#include "core/memory.h"
#include "engine/device_memory.h"
#include "engine/plan.h"
#include "engine/summary.h"

namespace halftone {
namespace {

int64_t largest_of_ranks(int64_t value, Communicator& ranks) {
  ranks.all_reduce(&value, 1, DType::kI64, ReduceOp::kMax);
  return value;
}

int64_t least_of_ranks(int64_t value, Communicator& ranks) {
  return -largest_of_ranks(-value, ranks);
}

void log_kind(const char* kind, int64_t predicted, int64_t measured) {
  if (measured <= 0) return;
  const double off = 100.0 * (static_cast<double>(predicted) / static_cast<double>(measured) - 1.0);
  log_info("peak of ", kind, " memory per rank: predicted ", bytes_text(predicted), ", measured ",
           bytes_text(measured), " (", off < 0 ? "" : "+", static_cast<int64_t>(off), " %)");
}

}  // namespace

void add_budget_options(Options& options) {
  options.bytes("memory-budget", "what a rank may take of its GPU's memory; auto: what is free");
  options.bytes("host-budget", "what a rank may take of its host's memory; auto: its share of it");
}

MemoryBudget memory_budget(const Options& options, const Cluster& cluster) {
  MemoryBudget budget;
  const int64_t device = options.get_bytes("memory-budget");
  int64_t host = options.get_bytes("host-budget");
  if (!cluster.device.is_cuda() && device > 0) host = host > 0 ? std::min(host, device) : device;
  budget.host_chosen = host > 0;
  // What this process has already is its own.
  const int64_t share = available_host_bytes() / cluster.world.local_size() + host_bytes_now();
  budget.host_bytes = least_of_ranks(host > 0 ? host : share, cluster.control);
  if (!cluster.device.is_cuda()) return budget;
  budget.device_chosen = device > 0;
  const int64_t free = device > 0 ? device : free_device_bytes(cluster.device);
  budget.device_bytes = least_of_ranks(free, cluster.control);
  return budget;
}

int64_t held_bytes(Residency residency, const SourceLayout& source,
                   const std::vector<Target>& targets) {
  int64_t bytes = 0;
  if (residency == Residency::kResident) {
    for (const std::vector<StoredTensor>& stage : source.stages()) bytes += bytes_of(stage);
  } else if (residency == Residency::kCompressed) {
    for (const Target& target : targets) bytes += target.hf.layout.total_bytes;
  }
  return bytes;
}

void plan_memory(const SourceLayout& source, const Model& model, const std::vector<Target>& targets,
                 const BatchShape& batches, const Options& options, const Cluster& cluster,
                 QuantizeOptions& quantize) {
  MemoryInputs inputs = memory_inputs(source, model, targets, batches, quantize);
  inputs.ranks = cluster.world.size();
  inputs.threads = cluster.pool.threads();
  inputs.gpu = cluster.device.is_cuda();
  inputs.base_bytes = largest_of_ranks(host_bytes_now(), cluster.control);
  inputs.residency = quantize.residency;
  inputs.held_bytes = held_bytes(quantize.residency, source, targets);
  quantize.budget = memory_budget(options, cluster);
  quantize.predicted = predict_memory(inputs);
  require_fits(inputs, quantize.predicted, quantize.budget);
}

MemoryPlan plan_evaluation(const WeightSource& source, const Model& model, DType compute_dtype,
                           bool copies_weights, const BatchShape& batches, const Options& options,
                           const Cluster& cluster) {
  MemoryInputs inputs;
  inputs.specs = &model.stages();
  inputs.stages = &source.tensors();
  // Activations are needed, though nobody observes them.
  inputs.observe.assign(model.stages().size(), ObserveOptions{});
  inputs.model_dtype = compute_dtype;
  inputs.compute_dtype = compute_dtype;
  inputs.hidden_size = model.hidden_size();
  inputs.copies_weights = copies_weights;
  inputs.batches = batches;
  inputs.stage_limit = stage_limit(options, cluster);
  inputs.ranks = cluster.world.size();
  inputs.threads = cluster.pool.threads();
  inputs.gpu = cluster.device.is_cuda();
  inputs.base_bytes = largest_of_ranks(host_bytes_now(), cluster.control);
  const MemoryPlan plan = predict_memory(inputs);
  require_fits(inputs, plan, memory_budget(options, cluster));
  return plan;
}

Json evaluation_memory(const MemoryPlan& predicted, const Cluster& cluster) {
  const int64_t host = largest_of_ranks(peak_host_bytes(), cluster.control);
  const int64_t device = largest_of_ranks(peak_device_bytes(cluster.device), cluster.control);
  if (cluster.world.rank() == 0) log_memory(predicted, host, device);
  return memory_json(predicted, host, device);
}

void log_memory(const MemoryPlan& predicted, int64_t host_bytes, int64_t device_bytes) {
  log_kind("host", predicted.host_bytes, host_bytes);
  log_kind("device", predicted.device_bytes, device_bytes);
}

}  // namespace halftone
