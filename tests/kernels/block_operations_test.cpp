#include <gtest/gtest.h>

#include "kernels/thread_pool.h"
#include "tests/kernels/reference_block_operations.h"
#include "tests/kernels/reference_operations.h"

namespace halftone {
namespace {

using testing::difference;
using testing::HostMemory;
using testing::Matrix;
using testing::random_matrix;
using testing::ReferenceBlockOperations;
using testing::Results;

class BlockOperations : public ::testing::TestWithParam<DType> {
 protected:
  static Results on_cpu(const Matrix& w, ThreadPool* pool = nullptr) {
    HostMemory memory;
    return testing::every_block_operation(memory, Context{Device::kCpu, pool, nullptr}, w);
  }
};

TEST_P(BlockOperations, AreTheReferenceOnOddAndEvenSizes) {
  const std::pair<int64_t, int64_t> sizes[] = {{0, 32},  {1, 0},   {1, 1},  {3, 7},    {1, 16},
                                               {2, 31},  {5, 33},  {4, 48}, {1, 2080}, {7, 160},
                                               {3, 257}, {33, 96}, {17, 64}};
  for (const auto& [rows, cols] : sizes) {
    for (const bool specials : {false, true}) {
      const Matrix w = random_matrix(GetParam(), rows, cols, 7, specials);
      EXPECT_EQ(difference(on_cpu(w), ReferenceBlockOperations(w).run()), "")
          << rows << "x" << cols;
    }
  }
}

TEST_P(BlockOperations, AreTheReferenceOnTinyAndHugeValues) {
  for (const int exponent : {-140, -126, -118, -30, -20, 12, 90}) {
    Matrix w = random_matrix(GetParam(), 8, 96, 11);
    const double most = GetParam() == DType::kF16 ? 65504.0 : 0x1.fep127;
    for (int64_t i = 0; i < w.count(); ++i) {
      w.set(i, std::clamp(std::ldexp(w.at(i), exponent), -most, most));
    }
    EXPECT_EQ(difference(on_cpu(w), ReferenceBlockOperations(w).run()), "") << exponent;
  }
}

TEST_P(BlockOperations, DoNotDependOnTheNumberOfThreads) {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 80000}, {513, 160}, {9, 33333}}) {
    const Matrix w = random_matrix(GetParam(), rows, cols, 3, true);
    const Results expected = on_cpu(w);
    for (const int threads : {2, 3}) {
      ThreadPool pool(threads);
      EXPECT_EQ(difference(on_cpu(w, &pool), expected), "") << threads << " threads";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, BlockOperations,
                         ::testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& info) { return name_of(info.param); });

TEST(BlockChecks, WrongArgumentsAreProgrammersErrors) {
  const Matrix w(DType::kF32, 1, 24);
  std::vector<uint8_t> out(24);
  std::vector<float> floats(24);
  EXPECT_DEATH(quantize_nvfp4_with_scales({}, w.view(), 16, out.data(), 1.0f, out.data()),
               "whole blocks");
  EXPECT_DEATH(static_nvfp4_scales({}, floats.data(), 1, 0.0f, 448.0f, Numerics::kCpu, out.data()),
               "positive finite global amax");
  EXPECT_DEATH(static_nvfp4_scales({}, floats.data(), 1, 1.0f, 300.0f, Numerics::kCpu, out.data()),
               "448 or 256");
  EXPECT_DEATH(fake_quantize_nvfp4_scaled({}, w.view(), nullptr, 24, 1.0f, out.data()), "16 or 32");
  EXPECT_DEATH(search_nvfp4_blocks({}, w.view(), nullptr, 1.0f, 448.0f, floats.data(), 1, true,
                                   nullptr, floats.data()),
               "whole blocks");
  EXPECT_DEATH(quantize_mxfp4({}, w.view(), out.data(), out.data()), "whole blocks of 32");
  EXPECT_DEATH(quantize_nf4({}, w.view(), 7, floats.data(), floats.data(), out.data()),
               "whole bytes");
}

}  // namespace
}  // namespace halftone
