#pragma once

#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernels/context.h"
#include "kernels/dispatch.h"
#include "kernels/thread_pool.h"

#if defined(HALFTONE_HAS_CUDA)
#include "kernels/cuda_check.h"
#endif

namespace halftone::bench {

using Bytes = std::vector<uint8_t>;

// A place to measure on: its memory, its clock and its copy.
class Machine {
 public:
  virtual ~Machine() = default;
  virtual std::string name() const = 0;
  virtual Context context() = 0;
  virtual std::shared_ptr<void> make(size_t bytes) = 0;
  virtual void upload(const Bytes& bytes, void* to) = 0;
  virtual Bytes download(const void* from, size_t bytes) = 0;
  virtual void copy(const void* from, void* to, size_t bytes) = 0;
  virtual void wait() = 0;
  // Bytes of a matrix to measure with: too many for a cache, and long work beside what a launch
  // costs.
  virtual int64_t bytes() const = 0;
  virtual double seconds(const std::function<void()>& body) = 0;
};

class Processor final : public Machine {
 public:
  Processor() : pool_(static_cast<int>(std::thread::hardware_concurrency())) {}

  std::string name() const override {
    return "cpu_" + std::to_string(pool_.threads()) + "_threads";
  }
  Context context() override { return {Device::kCpu, &pool_, nullptr}; }
  std::shared_ptr<void> make(size_t bytes) override {
    return std::shared_ptr<void>(new uint8_t[bytes](),
                                 [](void* p) { delete[] static_cast<uint8_t*>(p); });
  }
  void upload(const Bytes& bytes, void* to) override {
    std::memcpy(to, bytes.data(), bytes.size());
  }
  Bytes download(const void* from, size_t bytes) override {
    const auto* data = static_cast<const uint8_t*>(from);
    return Bytes(data, data + bytes);
  }
  void copy(const void* from, void* to, size_t bytes) override {
    pool_.for_ranges(static_cast<int64_t>(bytes), 1 << 16, [&](int64_t begin, int64_t end) {
      std::memcpy(static_cast<char*>(to) + begin, static_cast<const char*>(from) + begin,
                  static_cast<size_t>(end - begin));
    });
  }
  void wait() override {}
  int64_t bytes() const override { return int64_t{256} << 20; }
  double seconds(const std::function<void()>& body) override {
    const auto start = std::chrono::steady_clock::now();
    body();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

 private:
  ThreadPool pool_;
};

#if defined(HALFTONE_HAS_CUDA)
class Gpu final : public Machine {
 public:
  std::string name() const override { return "cuda"; }
  Context context() override { return {Device::kCuda, nullptr, stream_.get()}; }
  std::shared_ptr<void> make(size_t bytes) override {
    auto buffer = std::make_shared<CudaBuffer>(bytes);
    return std::shared_ptr<void>(buffer, buffer->data());
  }
  void upload(const Bytes& bytes, void* to) override {
    check_cuda(cudaMemcpy(to, bytes.data(), bytes.size(), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  Bytes download(const void* from, size_t bytes) override {
    Bytes result(bytes);
    check_cuda(cudaMemcpy(result.data(), from, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
    return result;
  }
  void copy(const void* from, void* to, size_t bytes) override {
    check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_.get()),
               "cudaMemcpyAsync");
  }
  void wait() override { stream_.synchronize(); }
  int64_t bytes() const override { return int64_t{512} << 20; }
  double seconds(const std::function<void()>& body) override {
    start_.record(stream_.get());
    body();
    end_.record(stream_.get());
    return end_.seconds_since(start_);
  }

 private:
  CudaStream stream_;
  CudaEvent start_, end_;
};
#endif

// The processor, and the GPU if this build and this machine have one.
inline std::vector<std::unique_ptr<Machine>> machines() {
  std::vector<std::unique_ptr<Machine>> all;
  all.push_back(std::make_unique<Processor>());
#if defined(HALFTONE_HAS_CUDA)
  if (has_cuda_device()) all.push_back(std::make_unique<Gpu>());
#endif
  return all;
}

}  // namespace halftone::bench
