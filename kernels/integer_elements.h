#pragma once

#include "kernels/numeric_types.h"

namespace halftone {

// fp32 numbers at 1.5 * 2^23 are 1 apart: adding it rounds half to even, and the low bits of the
// sum are the integer in two's complement.
HALFTONE_HOST_DEVICE inline uint32_t integer_bits(float quotient, float low, float high) {
  const float number = is_nan_bits(bits_of(quotient)) ? 0.0f : quotient;
  // The bounds are whole numbers, so clamping before rounding is the same as after it.
  const float below = number > high ? high : number;
  const float clamped = below < low ? low : below;
  return bits_of(clamped + 12582912.0f);
}

// clamp(rint(w / scale), -128, 127); NaN gives 0 (formats-and-hf-export.md, 2.6).
HALFTONE_HOST_DEVICE inline int8_t int8_code(float w, float scale) {
  return static_cast<int8_t>(integer_bits(w / scale, -128.0f, 127.0f) - bits_of(12582912.0f));
}

// clamp(rint(w / scale), -8, 7) as a nibble; NaN gives 0 (formats-and-hf-export.md, 2.7).
HALFTONE_HOST_DEVICE inline uint8_t int4_code(float w, float scale) {
  return static_cast<uint8_t>(integer_bits(w / scale, -8.0f, 7.0f) & 15u);
}

HALFTONE_HOST_DEVICE inline float float_of_int4(uint32_t nibble) {
  return static_cast<float>(static_cast<int32_t>(nibble ^ 8u) - 8);
}

// An amax of (nearly) nothing: everything becomes zero (calibration.md, 3.2).
HALFTONE_HOST_DEVICE inline bool is_no_amax(float amax) {
  return amax <= 0x1p-24f;
}

// clamp(rint(x * scale), low, high) / scale; the sign of zero and NaN stay (calibration.md, 3.2,
// where scale = high / amax and low = -high - 1).
HALFTONE_HOST_DEVICE inline float fake_integer(float x, float scale, float low, float high) {
  const float scaled = x * scale;
  const float below = scaled > high ? high : scaled;
  const float clamped = below < low ? low : below;
  const uint32_t bits = bits_of(clamped);
  // fp32 numbers at 2^23 are 1 apart.
  const float magnitude = (float_of_bits(bits & 0x7fffffffu) + 8388608.0f) - 8388608.0f;
  return float_of_bits((bits & 0x80000000u) | bits_of(magnitude)) / scale;
}

}  // namespace halftone
