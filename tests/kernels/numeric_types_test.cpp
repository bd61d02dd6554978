#include "kernels/numeric_types.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "tests/kernels/reference.h"

namespace halftone {
namespace {

constexpr uint32_t kAll16 = 65536;

bool same(float ours, double expected) {
  if (std::isnan(expected)) return std::isnan(ours);
  return ours == expected && std::signbit(ours) == std::signbit(expected);
}

TEST(NumericTypes, EveryBF16AndF16LoadsAsItsValue) {
  for (uint32_t i = 0; i < kAll16; ++i) {
    const auto code = static_cast<uint16_t>(i);
    ASSERT_TRUE(same(float_of_bf16(code), reference::decode_16(code, reference::kBF16))) << i;
    ASSERT_TRUE(same(float_of_f16(code), reference::decode_16(code, reference::kF16))) << i;
  }
}

TEST(NumericTypes, EveryBF16AndF16SurvivesARoundTrip) {
  for (uint32_t i = 0; i < kAll16; ++i) {
    const auto code = static_cast<uint16_t>(i);
    const bool bf16_nan = (code & 0x7fffu) > 0x7f80u;
    const bool f16_nan = (code & 0x7fffu) > 0x7c00u;
    ASSERT_EQ(bf16_of_float(float_of_bf16(code)), bf16_nan ? 0x7fc0 : code);
    ASSERT_EQ(f16_of_float(float_of_f16(code)), f16_nan ? 0x7e00 : code);
  }
}

// All the places where rounding changes: every code's value, the midpoint to the next, and the
// neighbours of both.
TEST(NumericTypes, RoundingTo16BitsAtEveryBoundary) {
  const auto expect = [](float value) {
    ASSERT_EQ(
        bf16_of_float(value),
        reference::encode_16(reference::round_ieee(value, reference::kBF16), reference::kBF16));
    ASSERT_EQ(f16_of_float(value),
              reference::encode_16(reference::round_ieee(value, reference::kF16), reference::kF16));
  };
  for (uint32_t i = 0; i < kAll16; ++i) {
    for (const int offset : {-1, 0, 1}) {
      const auto code = static_cast<uint16_t>(i);
      const auto nudge = static_cast<uint32_t>(offset);
      expect(std::bit_cast<float>((i << 16) + 0x8000u + nudge));
      expect(std::bit_cast<float>((i << 16) + nudge));
      const float half = float_of_f16(code);
      expect(std::bit_cast<float>(std::bit_cast<uint32_t>(half) + nudge));
      const float next = float_of_f16(static_cast<uint16_t>(i + 1));
      expect(std::bit_cast<float>(std::bit_cast<uint32_t>((half + next) * 0.5f) + nudge));
    }
  }
}

TEST(NumericTypes, E4M3OfEveryBF16AndF16) {
  for (uint32_t i = 0; i < kAll16; ++i) {
    for (const float value :
         {float_of_bf16(static_cast<uint16_t>(i)), float_of_f16(static_cast<uint16_t>(i))}) {
      const uint8_t code = e4m3_of_float(value);
      if (std::isnan(value)) {
        ASSERT_EQ(code & 0x7f, 0x7f);
        ASSERT_EQ(code >> 7, std::signbit(value) ? 1 : 0);
      } else {
        ASSERT_EQ(code, reference::e4m3(value)) << value;
      }
    }
  }
}

TEST(NumericTypes, E4M3AtEveryBoundaryAndItsNeighbours) {
  for (uint32_t code = 0; code < 0x7f; ++code) {
    const double value = reference::decode(code, 3, -6);
    const double next = reference::decode(code + 1, 3, -6);  // after 448 that is 480
    for (const double at : {value, (value + next) / 2}) {
      const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(at));
      for (const uint32_t near : {bits - (bits > 0 ? 1 : 0), bits, bits + 1}) {
        const float x = std::bit_cast<float>(near);
        ASSERT_EQ(e4m3_of_float(x), reference::e4m3(x)) << x;
        ASSERT_EQ(e4m3_of_float(-x), reference::e4m3(-x)) << x;
      }
    }
  }
}

TEST(NumericTypes, E4M3TableOfTheSpecification) {  // formats-and-hf-export.md, 8.5
  EXPECT_EQ(e4m3_of_float(0x1p-9f), 0x01);
  EXPECT_EQ(e4m3_of_float(0x1p-10f), 0x00);
  EXPECT_EQ(e4m3_of_float(1.5f * 0x1p-9f), 0x02);
  EXPECT_EQ(e4m3_of_float(2.5f * 0x1p-9f), 0x02);
  EXPECT_EQ(e4m3_of_float(.0175f), 0x09);
  EXPECT_EQ(e4m3_of_float(1.0625f), 0x38);
  EXPECT_EQ(e4m3_of_float(1.1875f), 0x3a);
  EXPECT_EQ(e4m3_of_float(448.0f), 0x7e);
  EXPECT_EQ(e4m3_of_float(464.0f), 0x7e);
  EXPECT_EQ(e4m3_of_float(464.1f), 0x7f);
  EXPECT_EQ(e4m3_of_float(480.0f), 0x7f);
  EXPECT_EQ(e4m3_of_float(1e9f), 0x7f);
  EXPECT_EQ(e4m3_of_float(-464.1f), 0xff);
  EXPECT_EQ(e4m3_of_float(-0.0f), 0x80);
}

TEST(NumericTypes, E4M3DecodesAndReturns) {
  for (uint32_t i = 0; i < 256; ++i) {
    const auto code = static_cast<uint8_t>(i);
    ASSERT_TRUE(same(float_of_e4m3(code), reference::of_e4m3(code))) << i;
    ASSERT_EQ(e4m3_of_float(float_of_e4m3(code)), code);
  }
}

TEST(NumericTypes, E2M1TableOfTheSpecification) {  // formats-and-hf-export.md, 8.5
  const float inputs[] = {0,     -0.0f, .25f, .75f,  1.25f,     1.75f,    2.5f,   3.5f,
                          5,     6,     7,    -.25f, -.75f,     -1.25f,   -1.75f, -2.5f,
                          -3.5f, -5,    -6,   -.1f,  .2500001f, .7499999f};
  const uint8_t codes[] = {0, 0, 0, 2, 2, 4, 4, 6, 6, 7, 7, 8, 10, 10, 12, 12, 14, 14, 15, 8, 1, 1};
  for (size_t i = 0; i < std::size(inputs); ++i) {
    EXPECT_EQ(e2m1_of_float(inputs[i]), codes[i]) << inputs[i];
  }
  EXPECT_EQ(e2m1_of_float(std::nanf("")), 7);
  EXPECT_EQ(e2m1_of_float(-std::nanf("")), 7);
  EXPECT_EQ(e2m1_of_float(INFINITY), 7);
  EXPECT_EQ(e2m1_of_float(-INFINITY), 15);
}

TEST(NumericTypes, E2M1OfEveryBF16AndF16) {
  for (uint32_t i = 0; i < kAll16; ++i) {
    for (const float value :
         {float_of_bf16(static_cast<uint16_t>(i)), float_of_f16(static_cast<uint16_t>(i))}) {
      ASSERT_EQ(e2m1_of_float(value), reference::e2m1(value)) << value;
    }
  }
}

TEST(NumericTypes, E2M1AtEveryBoundaryAndItsNeighbours) {
  for (const float bound : {.25f, .75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f, 6.0f, 1.0f, .5f}) {
    for (const float x : {std::nextafter(bound, 0.0f), bound, std::nextafter(bound, 9.0f)}) {
      ASSERT_EQ(e2m1_of_float(x), reference::e2m1(x)) << x;
      ASSERT_EQ(e2m1_of_float(-x), reference::e2m1(-x)) << x;
    }
  }
}

TEST(NumericTypes, E2M1Decodes) {
  for (uint32_t code = 0; code < 16; ++code) {
    ASSERT_TRUE(same(float_of_e2m1(code), reference::of_e2m1(static_cast<uint8_t>(code))));
  }
}

// Monotone over the whole range of fp32, in steps that meet every exponent.
TEST(NumericTypes, NarrowingIsMonotone) {
  uint8_t e4m3_before = 0;
  uint32_t e2m1_before = 0;
  for (uint32_t bits = 0; bits <= 0x7f800000u; bits += 997) {
    const float value = std::bit_cast<float>(bits);
    ASSERT_GE(e4m3_of_float(value), e4m3_before);
    ASSERT_GE(e2m1_index_of_float(value), e2m1_before);
    e4m3_before = e4m3_of_float(value);
    e2m1_before = e2m1_index_of_float(value);
  }
}

}  // namespace
}  // namespace halftone
