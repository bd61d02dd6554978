#include "engine/memory_budget.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "core/error.h"
#include "core/log.h"
#include "core/memory.h"
#include "engine/device_memory.h"

namespace halftone {
namespace {

void check_peak(const char* kind, const char* option, int64_t used, int64_t budget) {
  if (used <= budget) return;
  throw ResourceError(concat("this rank has used ", bytes_text(used), " of ", kind,
                             " memory, more than the budget of ", bytes_text(budget),
                             ": use a smaller --batch-size or more ranks, or raise ", option));
}

}  // namespace

void MemoryBudget::check_peaks(at::Device device) const {
  if (host_chosen) check_peak("host", "--host-budget", peak_host_bytes(), host_bytes);
  if (device_chosen) {
    check_peak("device", "--memory-budget", peak_device_bytes(device), device_bytes);
  }
}

int64_t stage_limit_of(const MemoryBudget& budget) {
  // Taking experts in groups reads them twice: not worth it below this.
  constexpr int64_t kSmallestStage = int64_t{256} << 20;
  constexpr int64_t kShare = 8;
  return std::max(kSmallestStage, std::min(budget.host_bytes, budget.device_bytes) / kShare);
}

std::string bytes_text(int64_t bytes) {
  const std::array<const char*, 5> units = {"B", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 999.95 && unit + 1 < units.size()) {
    value /= 1000.0;
    ++unit;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
  return text.data();
}

}  // namespace halftone
