#include "engine/plan.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>

#include "core/error.h"
#include "core/log.h"
#include "model/source_layout.h"

namespace halftone {
namespace {

using Fits = std::function<bool(int64_t value)>;

// The largest value in [low, high] that fits, where smaller ones fit if larger ones do.
std::optional<int64_t> largest_that(const Fits& fits, int64_t low, int64_t high) {
  if (low > high || !fits(low)) return std::nullopt;
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    if (fits(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

int64_t largest_stage(const MemoryInputs& inputs) {
  int64_t largest = 0;
  for (const std::vector<StoredTensor>& stage : *inputs.stages) {
    largest = std::max(largest, bytes_of(stage));
  }
  return largest;
}

MemoryInputs with_rows(const MemoryInputs& inputs, int64_t rows) {
  MemoryInputs changed = inputs;
  const int64_t samples = inputs.batches.batches * inputs.batches.rows;
  changed.batches.rows = rows;
  changed.batches.batches = (samples + rows - 1) / rows;
  return changed;
}

int64_t elements_of(const StoredTensor& tensor) {
  return std::accumulate(tensor.shape.begin(), tensor.shape.end(), int64_t{1}, std::multiplies<>());
}

// How often a search multiplies with each weight, forward passes being one.
double passes_of(const AlgorithmSpec& spec) {
  if (spec.method == "awq_lite" || spec.method == "svdquant") return 12.0;
  if (spec.method == "awq_clip") return 20.0;
  if (spec.method == "awq_full") return 32.0;
  if (spec.method == "gptq" || spec.method == "local_hessian") return 2.0;
  return 0.0;
}

// Multiply-adds of a weight for all tokens; an expert sees the share that routers give it, which
// the stage does not tell: an even spread over eight of them.
double work_of_stage(const MemoryInputs& inputs, size_t s) {
  constexpr double kExpertsOfAToken = 8.0;
  const BatchShape& batches = inputs.batches;
  const StageSpec& stage = (*inputs.specs)[s];
  double work = 0.0;
  for (const LinearSite& linear : stage.linears) {
    double tokens =
        static_cast<double>(batches.batches * batches.rows) *
        static_cast<double>(linear.of_encoder ? batches.encoder_length : batches.length);
    if (linear.expert >= 0) tokens *= std::min(1.0, kExpertsOfAToken / stage.experts);
    work += 2.0 * tokens * static_cast<double>(linear.out) * static_cast<double>(linear.in);
  }
  return work;
}

// With as much memory for each of them.
std::optional<int64_t> fewest_ranks(const MemoryInputs& inputs, const MemoryBudget& budget) {
  constexpr int64_t kMostRanks = 1 << 14;
  const auto spared = largest_that(
      [&](int64_t spare) {
        MemoryInputs changed = inputs;
        changed.ranks = static_cast<int>(kMostRanks - spare);
        return budget.holds(predict_memory(changed));
      },
      0, kMostRanks - inputs.ranks - 1);
  if (!spared) return std::nullopt;
  return kMostRanks - *spared;
}

std::string missing_text(const MemoryPlan& plan, const MemoryBudget& budget) {
  std::string text;
  if (plan.host_bytes > budget.host_bytes) {
    text = concat("needs ", bytes_text(plan.host_bytes), " of host memory per rank, the budget is ",
                  bytes_text(budget.host_bytes));
  }
  if (plan.device_bytes > budget.device_bytes) {
    text += concat(text.empty() ? "needs " : ", and ", bytes_text(plan.device_bytes),
                   " of device memory per rank, the budget is ", bytes_text(budget.device_bytes));
  }
  return concat(text, " (most of all in ", plan.peak_phase, " of ", plan.peak_stage, ")");
}

}  // namespace

int64_t hidden_state_bytes(const MemoryInputs& inputs) {
  const BatchShape& batches = inputs.batches;
  return batches.batches * batches.rows * (batches.length + batches.encoder_length) *
         inputs.hidden_size * size_of(inputs.compute_dtype);
}

int64_t statistics_bytes(const MemoryInputs& inputs) {
  int64_t bytes = 0;
  for (const StageSpec& stage : *inputs.specs) {
    for (const LinearSite& linear : stage.linears) bytes += 2 * 4 * linear.in;
  }
  return bytes;
}

std::vector<PlannedPhase> plan_phases(const MemoryInputs& inputs, const Rates& rates, int hosts,
                                      int64_t output_bytes) {
  int64_t read = 0;
  double elements = 0.0;
  double forward = 0.0;
  double search = 0.0;
  int64_t statistics = 0;
  int64_t computed = 0;
  for (size_t s = 0; s < inputs.stages->size(); ++s) {
    for (const StoredTensor& tensor : (*inputs.stages)[s]) {
      read += tensor.bytes;
      elements += static_cast<double>(elements_of(tensor));
    }
    if (!inputs.observe[s].any()) continue;
    ++computed;
    forward += work_of_stage(inputs, s);
    for (const LinearSite& linear : (*inputs.specs)[s].linears) statistics += 4 * linear.in;
    for (const TargetPlan* plan : inputs.plans) {
      for (const AlgorithmSpec& spec : plan->recipe.algorithms) {
        search += work_of_stage(inputs, s) * passes_of(spec);
      }
    }
  }
  const auto ranks = static_cast<double>(inputs.ranks);
  const int64_t gathered = read / inputs.ranks * (inputs.ranks - 1);
  const int64_t reduced = inputs.ranks > 1 ? 2 * statistics : 0;
  const int64_t states = hidden_state_bytes(inputs);
  const auto seconds = [](int64_t bytes, double rate) { return static_cast<double>(bytes) / rate; };
  // Packing reads a weight, writes what it becomes and reads that back in F32.
  constexpr double kPackedBytes = 12.0;
  return {
      {"load", seconds(read, rates.read * hosts) + seconds(gathered, rates.network), read,
       gathered},
      {"forward", forward / ranks / rates.flops, 0, 0},
      {"reduce", seconds(reduced, rates.network), 0, reduced},
      {"solve", search / ranks / rates.flops, 0, 0},
      {"pack",
       static_cast<double>(inputs.plans.size()) * elements * kPackedBytes / ranks / rates.memory, 0,
       0},
      {"write", seconds(output_bytes, rates.write * hosts), output_bytes, 0},
      {"save", seconds(states * computed, rates.write * hosts), states * computed, 0}};
}

std::vector<std::string> changes_that_fit(const MemoryInputs& inputs, const MemoryBudget& budget) {
  constexpr int64_t kSmallestGroup = int64_t{1} << 20;
  const auto fits = [&](const MemoryInputs& changed) {
    return budget.holds(predict_memory(changed));
  };
  std::vector<std::string> changes;
  if (inputs.residency != Residency::kStream) {
    MemoryInputs changed = inputs;
    changed.residency = Residency::kStream;
    changed.held_bytes = 0;
    if (fits(changed)) changes.emplace_back("--residency stream");
  }
  const auto limit = largest_that(
      [&](int64_t bytes) {
        MemoryInputs changed = inputs;
        changed.stage_limit = bytes;
        return fits(changed);
      },
      kSmallestGroup, std::min(inputs.stage_limit, largest_stage(inputs)) - 1);
  if (limit) changes.push_back(concat("--max-stage-bytes ", *limit));
  if (!inputs.gpu) {
    const auto threads = largest_that(
        [&](int64_t count) {
          MemoryInputs changed = inputs;
          changed.threads = static_cast<int>(count);
          return fits(changed);
        },
        1, inputs.threads - 1);
    if (threads) changes.push_back(concat("--threads ", *threads));
  }
  const auto ranks = fewest_ranks(inputs, budget);
  if (ranks) changes.push_back(concat("at least ", *ranks, " ranks"));
  const auto rows = largest_that([&](int64_t count) { return fits(with_rows(inputs, count)); }, 1,
                                 inputs.batches.rows - 1);
  if (rows) changes.push_back(concat("--batch-size ", *rows));
  if (!changes.empty()) return changes;
  // No change alone: batches of one sample, which leave most to be shared out.
  const auto together = fewest_ranks(with_rows(inputs, 1), budget);
  if (together) changes.push_back(concat("--batch-size 1 and at least ", *together, " ranks"));
  return changes;
}

void require_fits(const MemoryInputs& inputs, const MemoryPlan& plan, const MemoryBudget& budget) {
  if (budget.holds(plan)) return;
  std::string text = missing_text(plan, budget);
  const std::vector<std::string> changes = changes_that_fit(inputs, budget);
  if (changes.empty()) {
    throw ResourceError(concat(
        text, ": neither smaller batches, more ranks nor smaller groups of ",
        "experts alone would do; the process itself takes ", bytes_text(inputs.base_bytes),
        ": use fewer --calib-samples or a larger budget ", "(--host-budget, --memory-budget)"));
  }
  for (size_t i = 0; i < changes.size(); ++i) {
    text += concat(i == 0 ? ": use " : ", or ", changes[i]);
  }
  throw ResourceError(text);
}

}  // namespace halftone
