#include "tests/kernels/all_operations.h"

#include <gtest/gtest.h>

#include "kernels/dispatch.h"
#include "kernels/thread_pool.h"

namespace halftone {
namespace {

using testing::all_operations;
using testing::all_references;
using testing::difference;
using testing::HostMemory;
using testing::Matrix;
using testing::random_matrix;
using testing::Results;

class Operations : public ::testing::TestWithParam<DType> {
 protected:
  static Results on_cpu(const Matrix& w, ThreadPool* pool = nullptr) {
    HostMemory memory;
    return all_operations(memory, Context{Device::kCpu, pool, nullptr}, w);
  }
};

TEST_P(Operations, AreTheReferenceOnOddAndEvenSizes) {
  const std::pair<int64_t, int64_t> sizes[] = {{0, 32},  {1, 0},   {1, 1},   {3, 7},    {1, 16},
                                               {2, 31},  {5, 33},  {4, 48},  {1, 2080}, {7, 160},
                                               {3, 257}, {33, 96}, {2, 1024}};
  for (const auto& [rows, cols] : sizes) {
    for (const bool specials : {false, true}) {
      const Matrix w = random_matrix(GetParam(), rows, cols, 7, specials);
      EXPECT_EQ(difference(on_cpu(w), all_references(w)), "") << rows << "x" << cols;
    }
  }
}

TEST_P(Operations, AreTheReferenceOnTinyAndHugeValues) {
  for (const int exponent : {-140, -126, -118, -30, -20, 12, 90}) {
    Matrix w = random_matrix(GetParam(), 8, 96, 11);
    for (int64_t i = 0; i < w.count(); ++i) {
      const double value = std::ldexp(w.at(i), exponent);
      const double most = GetParam() == DType::kF16 ? 65504.0 : 0x1.fep127;
      w.set(i, std::clamp(value, -most, most));
    }
    EXPECT_EQ(difference(on_cpu(w), all_references(w)), "") << exponent;
  }
}

TEST_P(Operations, DoNotDependOnTheNumberOfThreads) {
  for (const auto& [rows, cols] :
       {std::pair<int64_t, int64_t>{1, 300000}, {513, 608}, {9, 33333}}) {
    const Matrix w = random_matrix(GetParam(), rows, cols, 3, true);
    const Results expected = on_cpu(w);
    for (const int threads : {1, 2, 3, 5}) {
      ThreadPool pool(threads);
      EXPECT_EQ(difference(on_cpu(w, &pool), expected), "") << threads << " threads";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Operations,
                         ::testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& info) { return name_of(info.param); });

// Every 16-bit element, with scales that put the codes everywhere.
TEST(Fp8, EveryBF16AndF16UnderSeveralScales) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    Matrix w(dtype, 256, 256);
    for (uint32_t i = 0; i < 65536; ++i) {
      const auto code = static_cast<uint16_t>(i);
      std::memcpy(&w.bytes[2 * i], &code, 2);
    }
    for (const float scale : {1.0f, 1.0f / 3.0f, 0.0123f, 0x1.8p-20f, 448.0f, 1.7e30f}) {
      std::vector<uint8_t> codes(65536);
      quantize_fp8({}, w.view(), scale, Numerics::kCpu, codes.data());
      for (int64_t i = 0; i < w.count(); ++i) {
        ASSERT_EQ(codes[static_cast<size_t>(i)], reference::fp8_code(dtype, w.at(i), scale))
            << w.at(i) << " / " << scale;
      }
    }
  }
}

// Quantizing what was read back with the same scales changes nothing.
TEST(Properties, QuantizationIsIdempotent) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Matrix w = random_matrix(dtype, 16, 64, 5);
    const auto size = static_cast<size_t>(w.count());
    Matrix read(dtype, 16, 64);
    const float scale = 0x1p-6f;  // so that T(code * scale) is exact
    std::vector<uint8_t> codes(size);
    std::vector<uint8_t> again(size);
    quantize_fp8({}, w.view(), scale, Numerics::kCpu, codes.data());
    dequantize_fp8({}, codes.data(), 16, 64, scale, dtype, read.bytes.data());
    quantize_fp8({}, read.view(), scale, Numerics::kCpu, again.data());
    EXPECT_EQ(codes, again);

    const std::vector<float> scales(16, 0x1p-5f);
    std::vector<int8_t> int8(size);
    std::vector<int8_t> int8_again(size);
    quantize_int8_rows({}, w.view(), scales.data(), int8.data());
    dequantize_int8_rows({}, int8.data(), 16, 64, scales.data(), dtype, read.bytes.data());
    quantize_int8_rows({}, read.view(), scales.data(), int8_again.data());
    EXPECT_EQ(int8, int8_again);

    Matrix twice(dtype, 16, 64);
    fake_quantize_fp8({}, w.view(), 7.0f, read.bytes.data());  // 448 * 2^-6
    fake_quantize_fp8({}, read.view(), 7.0f, twice.bytes.data());
    EXPECT_EQ(read.bytes, twice.bytes);
  }
}

TEST(Properties, Int8TiesGoToEvenAndSaturate) {
  Matrix w(DType::kF32, 1, 10);
  const double values[] = {.5, 1.5, 2.5, -.5, -1.5, 126.5, 127.5, 1000, -128.5, -1000};
  for (int i = 0; i < 10; ++i) w.set(i, values[i]);
  const float one = 1.0f;
  std::vector<int8_t> codes(10);
  quantize_int8_rows({}, w.view(), &one, codes.data());
  EXPECT_EQ(codes, (std::vector<int8_t>{0, 2, 2, 0, -2, 126, 127, 127, -128, -128}));
}

TEST(Properties, NanPolicy) {
  Matrix w(DType::kF32, 1, 16);
  w.set(3, NAN);
  const float one = 1.0f;
  std::vector<uint8_t> fp8(16);
  quantize_fp8({}, w.view(), 1.0f, Numerics::kCpu, fp8.data());
  EXPECT_EQ(fp8[3], 0x7f);
  std::vector<int8_t> int8(16, 1);
  quantize_int8_rows({}, w.view(), &one, int8.data());
  EXPECT_EQ(int8[3], 0);
  std::vector<uint8_t> packed(8);
  uint8_t scale = 0;
  quantize_nvfp4({}, w.view(), 16, 1.0f, packed.data(), &scale);
  EXPECT_EQ(scale, 0x7f);
  EXPECT_EQ(packed, std::vector<uint8_t>(8, 0x77));
  const Amax amax = amax_of_tensor({}, w.view());
  EXPECT_EQ(amax.value, 0.0f);
  EXPECT_FALSE(amax.finite);
}

TEST(Checks, WrongArgumentsAreProgrammersErrors) {
  Matrix w(DType::kF32, 1, 24);
  std::vector<uint8_t> out(24);
  EXPECT_DEATH(quantize_fp8({}, w.view(), 0.0f, Numerics::kCpu, out.data()), "positive");
  EXPECT_DEATH(quantize_nvfp4({}, w.view(), 16, 1.0f, out.data(), out.data()), "whole blocks");
  EXPECT_DEATH(quantize_nvfp4({}, w.view(), 8, 1.0f, out.data(), out.data()), "16 or 32");
  EXPECT_DEATH(fake_quantize_fp8({}, w.view(), NAN, out.data()), "finite amax");
  const MatrixView integers{w.bytes.data(), DType::kI32, 1, 24};
  EXPECT_DEATH(amax_of_tensor({}, integers), "F32, F16 or BF16");
  if constexpr (!kHasCuda) {
    const Context cuda{Device::kCuda, nullptr, nullptr};
    EXPECT_DEATH(amax_of_tensor(cuda, w.view()), "no CUDA");
  }
}

TEST(DType, NamesAreThoseOfSafetensors) {
  EXPECT_STREQ(name_of(DType::kBF16), "BF16");
  EXPECT_STREQ(name_of(DType::kF8E4M3), "F8_E4M3");
  EXPECT_STREQ(name_of(DType::kBool), "BOOL");
}

}  // namespace
}  // namespace halftone
