#pragma once

#include <ATen/core/Tensor.h>

#include <exception>

namespace halftone {

// Whether an allocation failed: of a GPU's memory, of LibTorch's or oneDNN's on the host, or any
// other.
bool is_out_of_memory(const std::exception& error);

// Hands memory that allocators keep back to the system or the GPU.
void release_free_memory(at::Device device);

}  // namespace halftone
