#include "engine/plan.h"

#include <algorithm>
#include <functional>
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

std::vector<std::string> changes_that_fit(const MemoryInputs& inputs, const MemoryBudget& budget) {
  constexpr int64_t kSmallestGroup = int64_t{1} << 20;
  constexpr int64_t kMostRanks = 1 << 14;
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
  // Fewer ranks than this do not fit: the largest number of missing ranks that does.
  const auto spared = largest_that(
      [&](int64_t spare) {
        MemoryInputs changed = inputs;
        changed.ranks = static_cast<int>(kMostRanks - spare);
        return fits(changed);
      },
      0, kMostRanks - inputs.ranks - 1);
  if (spared) changes.push_back(concat("at least ", kMostRanks - *spared, " ranks"));
  const auto rows = largest_that([&](int64_t count) { return fits(with_rows(inputs, count)); }, 1,
                                 inputs.batches.rows - 1);
  if (rows) changes.push_back(concat("--batch-size ", *rows));
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
