#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "engine/memory_model.h"

namespace halftone {

// What a rank may use.
struct MemoryBudget {
  int64_t host_bytes = INT64_MAX;
  int64_t device_bytes = INT64_MAX;  // of its GPU
  // Whether somebody chose these: what merely is free may be exceeded, since others may free more.
  bool host_chosen = false;
  bool device_chosen = false;

  bool holds(const MemoryPlan& plan) const {
    return plan.host_bytes <= host_bytes && plan.device_bytes <= device_bytes;
  }
  // ResourceError if this process went beyond a chosen budget so far. What the run has finished
  // stays.
  void check_peaks(at::Device device) const;
};

// The bytes above which a stage comes in groups of experts: two are read at a time, and low-bit
// ones grow by two to four when they are decoded.
int64_t stage_limit_of(const MemoryBudget& budget);

// "31.2 GB"
std::string bytes_text(int64_t bytes);

}  // namespace halftone
