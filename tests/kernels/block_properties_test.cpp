#include <gtest/gtest.h>

#include <cmath>

#include "kernels/mx.h"
#include "kernels/mx_elements.h"
#include "kernels/nf4.h"
#include "kernels/nvfp4.h"
#include "kernels/nvfp4_search.h"
#include "tests/kernels/reference_blocks.h"
#include "tests/kernels/support.h"

// What holds for every finite BF16 value.
namespace halftone {
namespace {

using testing::Matrix;

// The finite BF16 values of both signs in ascending magnitude: 0, -0, then value and -value.
std::vector<float> finite_bf16() {
  std::vector<float> values;
  for (uint32_t code = 0; code < 0x7f80u; ++code) {
    values.push_back(float_of_bf16(static_cast<uint16_t>(code)));
    values.push_back(float_of_bf16(static_cast<uint16_t>(code | 0x8000u)));
  }
  return values;
}

// One block of `size` for each value: the value first, `other` in the others.
Matrix blocks_of(const std::vector<float>& values, int64_t size, float other) {
  Matrix w(DType::kBF16, static_cast<int64_t>(values.size()), size);
  for (size_t row = 0; row < values.size(); ++row) {
    for (int64_t i = 0; i < size; ++i) {
      w.set(static_cast<int64_t>(row) * size + i, i == 0 ? values[row] : other);
    }
  }
  return w;
}

TEST(E2M1, EveryBF16RoundsToNearestOnceAndKeepsItsOrder) {
  uint32_t last_nvfp4 = 0;
  uint32_t last_mxfp4 = 0;
  for (const float value : finite_bf16()) {
    const double magnitude = std::abs(static_cast<double>(value));
    const uint8_t nvfp4 = e2m1_of_float(value);
    const uint8_t mxfp4 = mxfp4_code(value);
    for (const uint8_t code : {nvfp4, mxfp4}) {
      const double error = std::abs(std::abs(float_of_e2m1(code)) - std::min(magnitude, 6.0));
      for (const double other : reference::kE2M1Values) {
        ASSERT_LE(error, std::abs(other - std::min(magnitude, 6.0))) << value;
      }
      ASSERT_EQ(code & 7, magnitude >= 6.0 ? 7 : code & 7) << value;
    }
    ASSERT_EQ(nvfp4 >> 3, value < 0.0f ? 1 : 0) << value;
    ASSERT_EQ(mxfp4 >> 3, value > 0.0f ? 0 : 1) << value;
    ASSERT_EQ(e2m1_of_float(float_of_e2m1(nvfp4)) & 7, nvfp4 & 7);
    ASSERT_EQ(mxfp4_code(float_of_e2m1(mxfp4)) & 7, mxfp4 & 7);
    ASSERT_GE(nvfp4 & 7u, last_nvfp4);
    ASSERT_GE(mxfp4 & 7u, last_mxfp4);
    last_nvfp4 = nvfp4 & 7u;
    last_mxfp4 = mxfp4 & 7u;
  }
}

TEST(E2M1, EveryCodeReturnsFromItsValue) {
  for (uint8_t code = 0; code < 16; ++code) {
    const float value = float_of_e2m1(code);
    EXPECT_EQ(e2m1_of_float(value), code == 8 ? 0 : code);  // -0 has no sign there
    EXPECT_EQ(mxfp4_code(value), code == 0 ? 8 : code);     // and zero has one here
  }
}

// Over the whole of fp32 in steps that meet every exponent, every tie and its neighbours, and what
// is not finite.
TEST(E2M1, RoundingIsEncodingAndDecoding) {
  std::vector<float> values{INFINITY, NAN, -NAN, -0.0f};
  for (uint64_t bits = 0; bits < 0x100000000u; bits += 9973) {
    values.push_back(float_of_bits(static_cast<uint32_t>(bits)));
  }
  for (const float tie : {.25f, .75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f, 1.0f, 6.0f}) {
    for (const float x : {std::nextafter(tie, 0.0f), tie, std::nextafter(tie, 9.0f)}) {
      values.insert(values.end(), {x, -x});
    }
  }
  for (const float value : values) {
    ASSERT_EQ(bits_of(round_to_e2m1(value)), bits_of(float_of_e2m1(e2m1_of_float(value)))) << value;
  }
}

TEST(E8M0, TheLeastPowerOfTwoForEveryBF16AndF16Amax) {
  for (uint32_t code = 0; code < 0x7f80u; ++code) {
    for (const float amax : {float_of_bf16(static_cast<uint16_t>(code)),
                             float_of_f16(static_cast<uint16_t>(code < 0x7c00u ? code : 0u))}) {
      for (const float largest : {6.0f, 448.0f}) {
        const float v = amax / largest;
        const uint8_t scale = e8m0_of_float(v);
        ASSERT_LE(v, std::ldexp(1.0, scale - 127)) << amax;
        ASSERT_TRUE(scale == 0 || v > std::ldexp(1.0, scale - 128)) << amax;
        ASSERT_EQ(scale, reference::mx_scale(amax, largest)) << amax;
      }
    }
  }
}

TEST(E8M0, EveryCodeReturnsAndHasItsInverse) {
  for (int code = 0; code < 255; ++code) {
    const auto byte = static_cast<uint8_t>(code);
    EXPECT_EQ(float_of_e8m0(byte), std::ldexp(1.0, code - 127));
    EXPECT_EQ(inverse_of_e8m0(byte), std::ldexp(1.0, 127 - code));
    EXPECT_EQ(e8m0_of_float(float_of_e8m0(byte)), byte);
  }
  EXPECT_TRUE(std::isnan(float_of_e8m0(255)));
  EXPECT_TRUE(std::isnan(inverse_of_e8m0(255)));
  EXPECT_EQ(e8m0_of_float(NAN), 255);
  EXPECT_EQ(e8m0_of_float(INFINITY), 254);
}

// Each BF16 value as the amax of a block: quantizing what was read back changes nothing. Above
// 2^127 there are amaxes that round to 2^128, which is infinity.
TEST(Mx, EveryBF16AmaxIsIdempotent) {
  std::vector<float> values = finite_bf16();
  std::erase_if(values, [](float value) { return std::abs(value) >= 0x1p127f; });
  const Matrix w = blocks_of(values, 32, 0.0f);
  const auto rows = static_cast<int64_t>(values.size());
  Matrix read(DType::kBF16, rows, 32);
  std::vector<uint8_t> codes(static_cast<size_t>(w.count()));
  std::vector<uint8_t> scales(values.size());
  std::vector<uint8_t> codes_again(codes.size());
  std::vector<uint8_t> scales_again(scales.size());
  quantize_mxfp8({}, w.view(), codes.data(), scales.data());
  dequantize_mxfp8({}, codes.data(), scales.data(), rows, 32, DType::kBF16, read.bytes.data());
  Matrix twice(DType::kBF16, rows, 32);
  quantize_mxfp8({}, read.view(), codes_again.data(), scales_again.data());
  dequantize_mxfp8({}, codes_again.data(), scales_again.data(), rows, 32, DType::kBF16,
                   twice.bytes.data());
  EXPECT_EQ(read.bytes, twice.bytes);

  std::vector<uint8_t> packed(codes.size() / 2);
  quantize_mxfp4({}, w.view(), packed.data(), scales.data());
  dequantize_mxfp4({}, packed.data(), scales.data(), rows, 32, DType::kBF16, read.bytes.data());
  quantize_mxfp4({}, read.view(), packed.data(), scales.data());
  dequantize_mxfp4({}, packed.data(), scales.data(), rows, 32, DType::kBF16, twice.bytes.data());
  // But for the sign of what rounded to zero, which becomes that of zero.
  for (int64_t i = 0; i < w.count(); ++i) ASSERT_EQ(read.at(i), twice.at(i)) << w.at(i);
}

// The exponent is rounded up, so the largest element of a block never saturates by much: it comes
// back within half a step of e2m1 between 4 and 6, and of e4m3.
TEST(Mx, EveryNormalBF16AmaxComesBack) {
  std::vector<float> values;
  for (uint32_t code = 0x0480u; code < 0x7f00u; ++code) {
    values.push_back(float_of_bf16(static_cast<uint16_t>(code)));
  }
  const Matrix w = blocks_of(values, 32, 0.0f);
  Matrix y(DType::kBF16, w.rows, 32);
  const auto worst = [&] {
    double largest = 0.0;
    for (int64_t row = 0; row < w.rows; ++row) {
      largest = std::max(largest, std::abs(y.at(row * 32) / w.at(row * 32) - 1.0));
    }
    return largest;
  };
  fake_quantize_mxfp4({}, w.view(), y.bytes.data());
  EXPECT_LE(worst(), 0.2 + 1e-9);
  EXPECT_GT(worst(), 0.1);
  fake_quantize_mxfp8({}, w.view(), y.bytes.data());
  EXPECT_LE(worst(), 1.0 / 16.0);
  EXPECT_GT(worst(), 1.0 / 64.0);
}

TEST(Mx, BlocksWithoutAnAmaxHaveTheFactorOne) {
  Matrix x(DType::kF32, 1, 96);
  x.set(0, INFINITY);
  x.set(1, -INFINITY);
  x.set(2, 1.3);
  x.set(32, NAN);
  x.set(33, -2.4);
  Matrix y(DType::kF32, 1, 96);
  fake_quantize_mxfp4({}, x.view(), y.bytes.data());
  EXPECT_EQ(y.at(0), 6.0);
  EXPECT_EQ(y.at(1), -6.0);
  EXPECT_EQ(y.at(2), 1.5);
  EXPECT_TRUE(std::isnan(y.at(32)));
  EXPECT_EQ(y.at(33), -2.0);
  EXPECT_EQ(y.at(64), 0.0);
  fake_quantize_mxfp8({}, x.view(), y.bytes.data());
  EXPECT_EQ(y.at(0), 448.0);
  EXPECT_EQ(y.at(1), -448.0);
  EXPECT_EQ(y.at(2), 1.25);
  EXPECT_TRUE(std::isnan(y.at(32)));
  EXPECT_EQ(y.at(33), -2.5);
}

TEST(Mx, NanAndInfinityShowInTheScales) {
  Matrix w(DType::kF32, 2, 32);
  w.set(3, NAN);
  w.set(32, -INFINITY);
  std::vector<uint8_t> bytes(64);
  std::vector<uint8_t> scales(2);
  quantize_mxfp8({}, w.view(), bytes.data(), scales.data());
  EXPECT_EQ(scales, (std::vector<uint8_t>{255, 254}));
  EXPECT_EQ(bytes[3], 0x7f);
  EXPECT_EQ(bytes[32], 0xfe);
  quantize_mxfp4({}, w.view(), bytes.data(), scales.data());
  EXPECT_EQ(scales, (std::vector<uint8_t>{255, 254}));
  EXPECT_EQ(bytes[16] & 15, 15);
}

// With scales that are powers of two everything that is read back fits BF16.
TEST(Nvfp4, EveryBF16IsIdempotentUnderGivenScales) {
  const Matrix w = blocks_of(finite_bf16(), 16, 1.0f);
  std::vector<uint8_t> packed(static_cast<size_t>(w.count() / 2));
  std::vector<uint8_t> again(packed.size());
  Matrix read(DType::kBF16, w.rows, 16);
  for (const uint8_t scale : {0x01, 0x08, 0x38, 0x78}) {
    const std::vector<uint8_t> scales(static_cast<size_t>(w.rows), scale);
    quantize_nvfp4_with_scales({}, w.view(), 16, scales.data(), 0x1p-12f, packed.data());
    dequantize_nvfp4({}, packed.data(), scales.data(), w.rows, 16, 16, 0x1p-12f, DType::kBF16,
                     read.bytes.data());
    quantize_nvfp4_with_scales({}, read.view(), 16, scales.data(), 0x1p-12f, again.data());
    dequantize_nvfp4({}, again.data(), scales.data(), w.rows, 16, 16, 0x1p-12f, DType::kBF16,
                     read.bytes.data());
    for (size_t i = 0; i < packed.size(); ++i) {  // a negative zero loses its sign, nothing else
      ASSERT_EQ(again[i] & 0x77, packed[i] & 0x77);
      ASSERT_TRUE((again[i] & 15) == (packed[i] & 15) || (packed[i] & 15) == 8);
    }
  }
}

// Every 16-bit element under every positive block scale, in a matrix large enough for limits in
// place of divisions: fitting steps, subnormal ones, and ones under which tiny elements vanish.
TEST(Nvfp4, EveryElementUnderEveryScale) {
  constexpr int64_t kScales = 126;
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    Matrix w(dtype, 4096 * kScales, 16);
    std::vector<uint8_t> scales(static_cast<size_t>(w.rows));
    const auto element = [](int64_t i) {
      return static_cast<uint16_t>(i / 16 / kScales * 16 + i % 16);
    };
    for (int64_t i = 0; i < w.count(); ++i) {
      const uint16_t bits = element(i);
      std::memcpy(&w.bytes[2 * static_cast<size_t>(i)], &bits, sizeof(bits));
      scales[static_cast<size_t>(i / 16)] = static_cast<uint8_t>(1 + i / 16 % kScales);
    }
    std::vector<uint8_t> packed(static_cast<size_t>(w.count() / 2));
    for (const float scale_2 : {0.000217f, 3e-40f, 7.3e32f}) {
      quantize_nvfp4_with_scales({}, w.view(), 16, scales.data(), scale_2, packed.data());
      int64_t wrong = 0;
      for (int64_t i = 0; i < w.count(); ++i) {
        const float step = float_of_e4m3(scales[static_cast<size_t>(i / 16)]) * scale_2;
        const float x =
            dtype == DType::kBF16 ? float_of_bf16(element(i)) : float_of_f16(element(i));
        const uint8_t pair = packed[static_cast<size_t>(i / 2)];
        wrong += e2m1_of_float(x / step) != (i % 2 == 0 ? pair & 15 : pair >> 4);
      }
      EXPECT_EQ(wrong, 0) << name_of(dtype) << " " << scale_2;
    }
  }
}

// The dynamic kind is the static one with the amaxes of max calibration where nothing is rounded
// before the scale itself: 1.3125 / 2688 is 2^-11.
TEST(Nvfp4, StaticScalesWithoutRoundingAreTheDynamicOnes) {
  std::vector<float> amax;
  for (int e = -20; e <= 0; ++e) amax.push_back(std::ldexp(1.3125f, e));
  std::vector<uint8_t> scales(amax.size());
  static_nvfp4_scales({}, amax.data(), static_cast<int64_t>(amax.size()), 1.3125f, 448.0f,
                      Numerics::kCpu, scales.data());
  const Matrix w = blocks_of(amax, 16, 0.0f);
  std::vector<uint8_t> packed(static_cast<size_t>(w.count() / 2));
  std::vector<uint8_t> dynamic(amax.size());
  quantize_nvfp4({}, w.view(), 16, 0x1p-11f, packed.data(), dynamic.data());
  EXPECT_EQ(scales, dynamic);
}

TEST(Nf4, BlocksOfZerosHaveTheCodeOfZeroAndAnOddCountEndsWithIt) {
  const std::vector<float> table{-1.0f, -.7f, -.5f, -.4f, -.3f, -.2f, -.1f, 0.0f,
                                 .1f,   .2f,  .3f,  .4f,  .5f,  .6f,  .7f,  1.0f};
  Matrix w(DType::kBF16, 1, 11);
  w.set(8, 3.0);
  w.set(10, -3.0);
  for (const auto& quantize : {quantize_nf4, quantize_nf4_in_own_type}) {
    std::vector<float> absmax(2);
    std::vector<uint8_t> packed(6);
    quantize({}, w.view(), 8, table.data(), absmax.data(), packed.data());
    EXPECT_EQ(packed, (std::vector<uint8_t>{0x77, 0x77, 0x77, 0x77, 0xf7, 0x07}));
    EXPECT_EQ(absmax, (std::vector<float>{0.0f, 3.0f}));
  }
}

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
