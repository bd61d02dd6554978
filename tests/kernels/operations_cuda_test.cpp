#include <gtest/gtest.h>

#include "kernels/cuda_check.h"
#include "tests/kernels/all_operations.h"

// The GPU against the CPU, byte for byte. The CPU is held against the reference elsewhere.
namespace halftone {
namespace {

using testing::all_operations;
using testing::Bytes;
using testing::difference;
using testing::HostMemory;
using testing::Matrix;
using testing::random_matrix;
using testing::Results;

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

class CudaOperations : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (!has_cuda_device()) GTEST_SKIP() << "no CUDA device: the GPU kernels were NOT tested";
  }

  static void expect_same(const Matrix& w) {
    HostMemory host;
    const Results expected = all_operations(host, Context{}, w);
    const CudaStream stream;
    for (const size_t skew : {size_t{0}, size_t{4}}) {
      DeviceMemory memory(stream, skew);
      const Context context{Device::kCuda, nullptr, stream.get()};
      EXPECT_EQ(difference(all_operations(memory, context, w), expected), "")
          << w.rows << "x" << w.cols << ", skew " << skew;
    }
  }
};

TEST_P(CudaOperations, RandomMatrices) {
  const std::pair<int64_t, int64_t> sizes[] = {{0, 32},  {1, 0},      {1, 1},      {3, 7},
                                               {2, 31},  {5, 33},     {4, 48},     {7, 160},
                                               {3, 257}, {70000, 16}, {513, 1024}, {1, 1 << 20}};
  for (const auto& [rows, cols] : sizes) {
    for (const bool specials : {false, true}) {
      expect_same(random_matrix(GetParam(), rows, cols, 17, specials));
    }
  }
}

TEST_P(CudaOperations, TinyAndHugeValues) {
  for (const int exponent : {-140, -126, -118, -30, -20, 12, 90}) {
    Matrix w = random_matrix(GetParam(), 64, 512, 19);
    const double most = GetParam() == DType::kF16 ? 65504.0 : 0x1.fep127;
    for (int64_t i = 0; i < w.count(); ++i) {
      w.set(i, std::clamp(std::ldexp(w.at(i), exponent), -most, most));
    }
    expect_same(w);
  }
}

TEST_P(CudaOperations, EveryBitPatternOfItsUpperHalf) {
  Matrix w(GetParam(), 256, 256);
  const auto size = static_cast<size_t>(size_of(GetParam()));
  for (size_t i = 0; i < 65536; ++i) {
    w.bytes[i * size + size - 1] = static_cast<uint8_t>(i >> 8);
    w.bytes[i * size + size - 2] = static_cast<uint8_t>(i);
  }
  expect_same(w);
}

INSTANTIATE_TEST_SUITE_P(Types, CudaOperations,
                         ::testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& info) { return name_of(info.param); });

}  // namespace
}  // namespace halftone
