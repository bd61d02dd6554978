#include <gtest/gtest.h>

#include "kernels/amax.h"
#include "kernels/fp8.h"
#include "kernels/int4.h"
#include "kernels/int8.h"
#include "kernels/mse_search.h"
#include "kernels/numeric_types.h"
#include "tests/kernels/support.h"

// What holds for every BF16 number, and the rules for what is not a usual one.
namespace halftone {
namespace {

using testing::Matrix;

const Context kCpu{};

float of_pattern(uint32_t pattern) {
  return float_of_bf16(static_cast<uint16_t>(pattern));
}

// All BF16 numbers that are finite, smallest first, as a matrix of one row.
Matrix every_finite_bf16() {
  Matrix w(DType::kBF16, 1, 2 * 0x7f80);
  for (int i = 0; i < 0x7f80; ++i) {
    w.set(0x7f80 + i, of_pattern(static_cast<uint32_t>(i)));
    w.set(0x7f7f - i, -of_pattern(static_cast<uint32_t>(i)));
  }
  return w;
}

TEST(E4M3OfEveryBF16, IsTheNearestCodeAndTheEvenOneOnTies) {
  for (uint32_t pattern = 0; pattern < 0x7f80; ++pattern) {
    const float value = of_pattern(pattern);
    const uint8_t code = e4m3_of_float(value);
    ASSERT_EQ(e4m3_of_float(-value), code | 0x80) << value;
    if (value > 464.0f) {
      ASSERT_EQ(code, 0x7f) << value;
      continue;
    }
    ASSERT_LE(code, 0x7e);
    const double error = std::abs(float_of_e4m3(code) - static_cast<double>(value));
    for (const int neighbour : {code - 1, code + 1}) {
      if (neighbour < 0 || neighbour > 0x7e) continue;
      const double other =
          std::abs(float_of_e4m3(static_cast<uint8_t>(neighbour)) - static_cast<double>(value));
      ASSERT_LE(error, other) << value;
      ASSERT_TRUE(error != other || code % 2 == 0) << value;
    }
  }
}

TEST(E4M3OfEveryBF16, IsIdempotentAndMonotone) {
  const Matrix w = every_finite_bf16();
  float before = -449.0f;
  for (int64_t i = 0; i < w.count(); ++i) {
    const float value = static_cast<float>(w.at(i));
    if (std::abs(value) > 464.0f) continue;
    const uint8_t code = e4m3_of_float(value);
    ASSERT_EQ(e4m3_of_float(float_of_e4m3(code)), code) << value;
    ASSERT_GE(float_of_e4m3(code), before) << value;
    before = float_of_e4m3(code);
  }
  EXPECT_EQ(before, 448.0f);
}

TEST(E4M3OfEveryBF16, NanKeepsItsSign) {
  for (const uint32_t sign : {0u, 0x8000u}) {
    for (uint32_t pattern = 0x7f80; pattern < 0x8000; ++pattern) {
      ASSERT_EQ(e4m3_of_float(of_pattern(sign | pattern)), (sign >> 8) | 0x7f);
    }
  }
}

// Reading back and quantizing again with a scale whose products are exact in BF16.
TEST(EveryBF16, SurvivesASecondQuantization) {
  const Matrix row = every_finite_bf16();
  Matrix w(DType::kBF16, 2, row.cols);
  std::copy(row.bytes.begin(), row.bytes.end(), w.bytes.begin());
  std::copy(row.bytes.begin(), row.bytes.end(), w.bytes.begin() + w.cols * 2);
  const std::vector<float> scales{0x1p-3f, 0x1p5f};
  Matrix read(DType::kBF16, 2, w.cols);
  std::vector<uint8_t> first(static_cast<size_t>(w.count()));
  std::vector<uint8_t> second(first.size());

  quantize_fp8_rows(kCpu, w.view(), scales.data(), first.data());
  dequantize_fp8_rows(kCpu, first.data(), 2, w.cols, scales.data(), w.dtype, read.bytes.data());
  quantize_fp8_rows(kCpu, read.view(), scales.data(), second.data());
  for (size_t i = 0; i < first.size(); ++i) {
    ASSERT_TRUE(first[i] == second[i] || (first[i] & 0x7f) == 0x7f) << i;
  }

  first.assign(static_cast<size_t>(w.cols), 0);
  second.assign(static_cast<size_t>(w.cols), 0);
  quantize_int4(kCpu, w.view(), w.cols, scales.data(), first.data());
  dequantize_int4(kCpu, first.data(), 2, w.cols, w.cols, scales.data(), w.dtype, read.bytes.data());
  quantize_int4(kCpu, read.view(), w.cols, scales.data(), second.data());
  EXPECT_EQ(first, second);
}

// rint of every number that has a tie near it, and the bounds beyond.
TEST(EveryBF16, IntegersSaturateAndGoHalfToEven) {
  const Matrix row = every_finite_bf16();
  Matrix w(DType::kBF16, 2, row.cols);
  std::copy(row.bytes.begin(), row.bytes.end(), w.bytes.begin());
  std::copy(row.bytes.begin(), row.bytes.end(), w.bytes.begin() + w.cols * 2);
  const std::vector<float> ones{1.0f, 1.0f};
  std::vector<int8_t> int8(static_cast<size_t>(w.count()));
  std::vector<uint8_t> int4(static_cast<size_t>(w.cols));
  quantize_int8_rows(kCpu, w.view(), ones.data(), int8.data());
  quantize_int4(kCpu, w.view(), w.cols, ones.data(), int4.data());
  for (int64_t i = 0; i < w.cols; ++i) {
    const double whole = std::nearbyint(w.at(i));
    ASSERT_EQ(int8[static_cast<size_t>(i)], std::clamp(whole, -128.0, 127.0)) << w.at(i);
    const int nibble = static_cast<int>(std::clamp(whole, -8.0, 7.0)) & 15;
    ASSERT_EQ(int4[static_cast<size_t>(i)], nibble * 17) << w.at(i);
  }
}

TEST(EveryBF16, FakeIntegersAreMonotoneAndStayWithinTheBounds) {
  const Matrix w = every_finite_bf16();
  Matrix int8(w.dtype, 1, w.cols);
  Matrix int4(w.dtype, 1, w.cols);
  const float amax = 3.0f;
  fake_quantize_int8(kCpu, w.view(), amax, int8.bytes.data());
  fake_quantize_int4(kCpu, w.view(), nullptr, w.cols, &amax, 1.0f, int4.bytes.data());
  for (const Matrix* y : {&int8, &int4}) {
    for (int64_t i = 1; i < w.count(); ++i) ASSERT_GE(y->at(i), y->at(i - 1)) << w.at(i);
    EXPECT_EQ(y->at(w.count() - 1), 3.0);
  }
  EXPECT_NEAR(int8.at(0), -3.0 * 128 / 127, 0.01);
  EXPECT_NEAR(int4.at(0), -3.0 * 8 / 7, 0.01);
}

TEST(Degenerate, NoAmaxGivesZeros) {
  const Matrix w = testing::random_matrix(DType::kF32, 2, 48, 4, true);
  const Matrix zeros(DType::kF32, 2, 48);
  Matrix y(DType::kF32, 2, 48);
  for (const float amax : {0.0f, 0x1p-24f}) {
    fake_quantize_int8(kCpu, w.view(), amax, y.bytes.data());
    EXPECT_EQ(y.bytes, zeros.bytes);
    const std::vector<float> amaxes(6, amax);
    fake_quantize_int4(kCpu, w.view(), nullptr, 16, amaxes.data(), 1.0f, y.bytes.data());
    EXPECT_EQ(y.bytes, zeros.bytes);
  }
  fake_quantize_int8(kCpu, w.view(), std::nextafter(0x1p-24f, 1.0f), y.bytes.data());
  EXPECT_NE(y.bytes, zeros.bytes);
}

TEST(Degenerate, WhatIsNotFinite) {
  Matrix x(DType::kF32, 2, 8);
  for (int64_t i = 0; i < x.count(); ++i) x.set(i, 0.25 * static_cast<double>(i));
  x.set(3, INFINITY);
  std::vector<float> amaxes(4);
  amax_of_blocks(kCpu, x.view(), 4, amaxes.data());
  EXPECT_EQ(amaxes, (std::vector<float>{0.5f, 1.75f, 2.75f, 3.75f}));
  Matrix y(DType::kF32, 2, 8);
  fake_quantize_fp8_tokens(kCpu, x.view(), y.bytes.data());
  for (int64_t i = 0; i < 16; ++i) EXPECT_EQ(std::isnan(y.at(i)), i < 8) << i;
  fake_quantize_int4(kCpu, x.view(), nullptr, 4, nullptr, 1.0f, y.bytes.data());
  for (int64_t i = 0; i < 16; ++i) EXPECT_EQ(std::isnan(y.at(i)), i < 4) << i;
  fake_quantize_int4(kCpu, x.view(), nullptr, 4, amaxes.data(), 1.0f, y.bytes.data());
  EXPECT_EQ(y.at(3), 0.5);  // saturates at a given amax
}

TEST(MseSearchRules, TheFirstOfEqualCandidatesWins) {
  Matrix w(DType::kF32, 1, 4);
  for (int64_t i = 0; i < 4; ++i) w.set(i, static_cast<double>(2 * i - 3));
  const float amax = 7.0f;  // steps of one: no error; of a half at 0.5, but that clips nothing
  const auto best = [&](const std::vector<float>& multipliers) {
    float result = 0.0f;
    search_int_amax(kCpu, w.view(), 4, 4, &amax, multipliers.data(),
                    static_cast<int64_t>(multipliers.size()), &result);
    return result;
  };
  EXPECT_EQ(best({1.0f, 0.5f}), 7.0f);
  EXPECT_EQ(best({0.5f, 1.0f}), 3.5f);
  std::vector<float> many(40, 0.1f);
  EXPECT_EQ(best(many), 7.0f * 0.1f);
  many[17] = 0.5f;
  many[35] = 1.0f;
  EXPECT_EQ(best(many), 3.5f);
}

TEST(Checks, WrongArgumentsOfIntegersAreProgrammersErrors) {
  Matrix w(DType::kF32, 3, 24);
  std::vector<uint8_t> out(72);
  std::vector<float> scale(72, 1.0f);
  const Matrix even(DType::kF32, 2, 24);
  EXPECT_DEATH(quantize_int4(kCpu, w.view(), 8, scale.data(), out.data()), "pairs of rows");
  EXPECT_DEATH(quantize_int4(kCpu, even.view(), 16, scale.data(), out.data()), "whole blocks");
  EXPECT_DEATH(quantize_int4(kCpu, even.view(), 0, scale.data(), out.data()), "whole blocks");
  EXPECT_DEATH(amax_of_blocks(kCpu, w.view(), 0, scale.data()), "at least one");
  EXPECT_DEATH(amax_of_tiles(kCpu, w.view(), -1, scale.data()), "at least one");
  EXPECT_DEATH(quantize_fp8_tiles(kCpu, w.view(), 0, scale.data(), out.data()), "at least one");
  EXPECT_DEATH(fake_quantize_int8(kCpu, w.view(), NAN, out.data()), "finite amax");
  EXPECT_DEATH(search_int_amax(kCpu, w.view(), 5, 8, scale.data(), scale.data(), 1, scale.data()),
               "8 and 4 bits");
  EXPECT_DEATH(search_int_amax(kCpu, w.view(), 8, 8, scale.data(), scale.data(), 0, scale.data()),
               "a multiplier");
}

}  // namespace
}  // namespace halftone
