#pragma once

#include "kernels/numeric_types.h"

namespace halftone {

// formats-and-hf-export.md, 2.3: note the rounding to the element's own type before e4m3.
template <typename Element>
HALFTONE_HOST_DEVICE inline uint8_t fp8_code(typename Element::Storage w, float scale) {
  return e4m3_of_float(round_to<Element>(Element::load(w) / scale));
}

// calibration.md, 3.1, with s = 448 / amax and inverse = 1 / s; NaN stays NaN.
HALFTONE_HOST_DEVICE inline float fake_fp8(float x, float s, float inverse) {
  const float scaled = x * s;
  const float below = scaled > 448.0f ? 448.0f : scaled;
  const float clamped = below < -448.0f ? -448.0f : below;
  return float_of_e4m3(e4m3_of_float(clamped)) * inverse;
}

}  // namespace halftone
