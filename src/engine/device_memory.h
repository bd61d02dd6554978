#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace halftone {

// The most memory that LibTorch has held on this process's GPU so far, in bytes; 0 for the CPU.
int64_t peak_device_bytes(at::Device device);
// What is free of a GPU's memory; 0 for the host.
int64_t available_device_bytes(at::Device device);

}  // namespace halftone
