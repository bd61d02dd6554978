#pragma once

#include "kernels/numeric_types.h"

namespace halftone {

// clamp(rint(w / scale), -128, 127), half to even; NaN gives 0 (formats-and-hf-export.md, 2.6).
HALFTONE_HOST_DEVICE inline int8_t int8_code(float w, float scale) {
  const float quotient = w / scale;
  const float number = is_nan_bits(bits_of(quotient)) ? 0.0f : quotient;
  // The bounds are whole numbers, so clamping before rounding is the same as after it.
  const float below = number > 127.0f ? 127.0f : number;
  const float clamped = below < -128.0f ? -128.0f : below;
  // fp32 numbers at 1.5 * 2^23 are 1 apart: the addition rounds, the low bits are the integer.
  return static_cast<int8_t>(bits_of(clamped + 12582912.0f) - bits_of(12582912.0f));
}

}  // namespace halftone
