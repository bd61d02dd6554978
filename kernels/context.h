#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace halftone {

class ThreadPool;

enum class Device : uint8_t { kCpu, kCuda };

// Where an operation runs. On the CPU `pool` is used (null: the calling thread); on a GPU the work
// is queued on `stream` (a cudaStream_t) of the current device and the pointers are device
// pointers.
struct Context {
  Device device = Device::kCpu;
  ThreadPool* pool = nullptr;
  void* stream = nullptr;
};

// A contiguous row-major matrix that somebody else owns. dtype is F32, F16 or BF16.
struct MatrixView {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;

  int64_t count() const { return rows * cols; }
  int64_t bytes() const { return count() * size_of(dtype); }
};

// The reference's CPU and CUDA arithmetic differ in the last bit (formats-and-hf-export.md, 2.1).
enum class Numerics : uint8_t { kCpu, kCuda };

}  // namespace halftone
