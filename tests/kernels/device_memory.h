#pragma once

#include <memory>

#include "kernels/cuda_check.h"
#include "tests/kernels/operations.h"

namespace halftone::testing {

// every_operation's memory on the GPU.
class DeviceMemory {
 public:
  // A skew of one element: addresses that do not allow wide loads.
  struct Buffer {
    explicit Buffer(size_t bytes, size_t skew) : memory(bytes + skew), offset(skew) {}
    void* data() const { return static_cast<char*>(memory.data()) + offset; }
    size_t size() const { return memory.size() - offset; }
    CudaBuffer memory;
    size_t offset;
  };

  DeviceMemory(const CudaStream& stream, size_t skew) : stream_(stream), skew_(skew) {}

  std::shared_ptr<Buffer> make(size_t size) const { return std::make_shared<Buffer>(size, skew_); }

  std::shared_ptr<Buffer> upload(const Bytes& bytes) const {
    auto buffer = make(bytes.size());
    check_cuda(cudaMemcpy(buffer->data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice),
               "cudaMemcpy");
    return buffer;
  }

  Bytes download(const std::shared_ptr<Buffer>& buffer) const {
    stream_.synchronize();
    Bytes bytes(buffer->size());
    check_cuda(cudaMemcpy(bytes.data(), buffer->data(), bytes.size(), cudaMemcpyDeviceToHost),
               "cudaMemcpy");
    return bytes;
  }

 private:
  const CudaStream& stream_;
  size_t skew_;
};

}  // namespace halftone::testing
