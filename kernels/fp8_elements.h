#pragma once

#include "kernels/numeric_types.h"

namespace halftone {

// T(value) before e4m3, without a look at T's exponents: what is subnormal or infinite in T becomes
// a zero or NaN code either way. A NaN becomes the positive one.
template <typename Element>
HALFTONE_HOST_DEVICE inline float round_significand(float value) {
  constexpr uint32_t kUnit = Element::kUnitInF32;
  const uint32_t bits = bits_of(value);
  const uint32_t odd = (bits / kUnit) & 1u;
  const uint32_t rounded = kUnit == 1u ? bits : (bits + kUnit / 2u - 1u + odd) & ~(kUnit - 1u);
  return float_of_bits(is_nan_bits(bits) ? 0x7fc00000u : rounded);
}

// formats-and-hf-export.md, 2.3: note the rounding to the element's own type before e4m3. For one
// rounding only (2.4, 2.5) Element is F32Element.
template <typename Element>
HALFTONE_HOST_DEVICE inline uint8_t fp8_code(typename Element::Storage w, float scale) {
  return e4m3_of_float(round_significand<Element>(Element::load(w) / scale));
}

// calibration.md, 3.1: an amax of (nearly) nothing counts as one.
HALFTONE_HOST_DEVICE inline float fp8_bound(float amax) {
  return amax <= 0x1p-24f ? 1.0f : amax;
}

// calibration.md, 3.1, with s = 448 / amax and inverse = 1 / s; NaN stays NaN.
HALFTONE_HOST_DEVICE inline float fake_fp8(float x, float s, float inverse) {
  const float scaled = x * s;
  const float below = scaled > 448.0f ? 448.0f : scaled;
  const float clamped = below < -448.0f ? -448.0f : below;
  return float_of_e4m3(e4m3_of_float(clamped)) * inverse;
}

}  // namespace halftone
