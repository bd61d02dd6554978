#include <gtest/gtest.h>

#include "tests/kernels/block_operations.h"
#include "tests/kernels/device_memory.h"
#include "tests/kernels/reference_operations.h"

// The GPU against the CPU, byte for byte. The CPU is held against the reference elsewhere.
namespace halftone {
namespace {

using testing::DeviceMemory;
using testing::difference;
using testing::every_block_operation;
using testing::HostMemory;
using testing::Matrix;
using testing::random_matrix;
using testing::Results;

class CudaBlockOperations : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (!has_cuda_device()) GTEST_SKIP() << "no CUDA device: the GPU kernels were NOT tested";
  }

  static void expect_same(const Matrix& w) {
    HostMemory host;
    const Results expected = every_block_operation(host, Context{}, w);
    const CudaStream stream;
    for (const size_t skew : {size_t{0}, size_t{4}}) {
      DeviceMemory memory(stream, skew);
      const Context context{Device::kCuda, nullptr, stream.get()};
      EXPECT_EQ(difference(every_block_operation(memory, context, w), expected), "")
          << w.rows << "x" << w.cols << ", skew " << skew;
    }
  }
};

TEST_P(CudaBlockOperations, RandomMatrices) {
  const std::pair<int64_t, int64_t> sizes[] = {{0, 32},  {1, 0},      {1, 1},      {3, 7},
                                               {2, 31},  {5, 33},     {4, 48},     {7, 160},
                                               {3, 257}, {70000, 16}, {513, 1024}, {1, 1 << 20}};
  for (const auto& [rows, cols] : sizes) {
    for (const bool specials : {false, true}) {
      expect_same(random_matrix(GetParam(), rows, cols, 17, specials));
    }
  }
}

TEST_P(CudaBlockOperations, TinyAndHugeValues) {
  for (const int exponent : {-140, -126, -118, -30, -20, 12, 90}) {
    Matrix w = random_matrix(GetParam(), 64, 512, 19);
    const double most = GetParam() == DType::kF16 ? 65504.0 : 0x1.fep127;
    for (int64_t i = 0; i < w.count(); ++i) {
      w.set(i, std::clamp(std::ldexp(w.at(i), exponent), -most, most));
    }
    expect_same(w);
  }
}

TEST_P(CudaBlockOperations, EveryBitPatternOfItsUpperHalf) {
  Matrix w(GetParam(), 256, 256);
  const auto size = static_cast<size_t>(size_of(GetParam()));
  for (size_t i = 0; i < 65536; ++i) {
    w.bytes[i * size + size - 1] = static_cast<uint8_t>(i >> 8);
    w.bytes[i * size + size - 2] = static_cast<uint8_t>(i);
  }
  expect_same(w);
}

INSTANTIATE_TEST_SUITE_P(Types, CudaBlockOperations,
                         ::testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& info) { return name_of(info.param); });

}  // namespace
}  // namespace halftone
