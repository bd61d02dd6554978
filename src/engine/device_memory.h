#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace halftone {

// The most memory that LibTorch has held on this process's GPU so far, in bytes; 0 for the CPU.
int64_t peak_device_bytes(at::Device device);

// What this process can still take of its GPU's memory, and what it holds of it, in bytes; 0 for
// the CPU.
int64_t free_device_bytes(at::Device device);

}  // namespace halftone
