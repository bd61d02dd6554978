#pragma once

#include <cstdint>

#include "kernels/nvfp4_elements.h"

namespace halftone {

inline constexpr int64_t kMxBlock = 32;

// ceil(log2(v)) + 127 for v >= 0, between 0 and 254; 255 for NaN (formats-and-hf-export.md, 2.12).
HALFTONE_HOST_DEVICE inline uint8_t e8m0_of_float(float v) {
  const uint32_t bits = bits_of(v);
  const uint32_t normal = (bits + 0x7fffffu) >> 23;
  const uint32_t subnormal = bits > 0x00400000u ? 1u : 0u;  // above 2^-127
  const uint32_t code = bits < 0x00800000u ? subnormal : bits >= 0x7f000000u ? 254u : normal;
  return static_cast<uint8_t>(is_nan_bits(bits) ? 255u : code);
}

// 2^(code - 127).
HALFTONE_HOST_DEVICE inline float float_of_e8m0(uint8_t code) {
  const uint32_t bits = code == 0 ? 0x00400000u : static_cast<uint32_t>(code) << 23;
  return float_of_bits(code == 255 ? 0x7fc00000u : bits);
}

// 2^(127 - code): multiplying by it is dividing by float_of_e8m0, rounding included.
HALFTONE_HOST_DEVICE inline float inverse_of_e8m0(uint8_t code) {
  return float_of_e8m0(code == 255 ? code : static_cast<uint8_t>(254 - code));
}

// As e2m1_of_float, but ties go toward zero and the sign is "not above zero".
HALFTONE_HOST_DEVICE inline uint8_t mxfp4_code(float x) {
  constexpr uint32_t kSix = 0x40c00000u;
  const uint32_t bits = bits_of(x);
  const uint32_t magnitude = (bits & 0x7fffffffu) < kSix ? bits & 0x7fffffffu : kSix;
  const uint32_t normal = ((magnitude + 0x1fffffu) >> 22) - (126u << 1);
  const uint32_t subnormal =
      (magnitude > 0x3e800000u ? 1u : 0u) + (magnitude > 0x3f400000u ? 1u : 0u);  // .25 and .75
  const bool positive = bits - 1u < 0x7f800000u;
  return static_cast<uint8_t>((positive ? 0u : 8u) |
                              (magnitude < 0x3f800000u ? subnormal : normal));
}

HALFTONE_HOST_DEVICE inline float bounded_by_448(float x) {
  const float above = x < -448.0f ? -448.0f : x;
  return above > 448.0f ? 448.0f : above;
}

// Processors disagree on the sign of a NaN that comes out of a product.
HALFTONE_HOST_DEVICE inline uint8_t mxfp8_code(float x) {
  const uint8_t code = e4m3_of_float(bounded_by_448(x));
  return is_nan_bits(bits_of(x)) ? uint8_t{0x7f} : code;
}

// What the two formats differ in: the largest value of an element, and its rounding in fake
// quantization (calibration.md, 3.6).
struct Mxfp4 {
  static constexpr float kLargest = 6.0f;
  HALFTONE_HOST_DEVICE static float round(float x) {
    const float rounded = round_to_e2m1(x);
    return is_nan_bits(bits_of(x)) ? x : rounded;
  }
};

struct Mxfp8 {
  static constexpr float kLargest = 448.0f;
  HALFTONE_HOST_DEVICE static float round(float x) { return float_of_e4m3(mxfp8_code(x)); }
};

template <typename Format>
HALFTONE_HOST_DEVICE inline uint8_t mx_scale(float amax_of_block) {
  return e8m0_of_float(amax_of_block / Format::kLargest);
}

// Of an activation: 127, the factor 1, for an amax that is zero or not finite.
template <typename Format>
HALFTONE_HOST_DEVICE inline uint8_t fake_mx_scale(float amax_of_block) {
  const bool usable = bits_of(amax_of_block) - 1u < 0x7f7fffffu;
  const uint8_t scale = mx_scale<Format>(amax_of_block);
  return usable ? scale : uint8_t{127};
}

}  // namespace halftone
