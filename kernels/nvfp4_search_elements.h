#pragma once

#include <cstdint>

#include "kernels/nvfp4_elements.h"

namespace halftone {

inline constexpr int kSearchBlock = 16;

// One search: what its blocks share.
struct Nvfp4Search {
  float to_e4m3;    // 448 / amax' of calibration.md, 3.4
  float from_e4m3;  // 1 / to_e4m3
  const float* candidates;
  int64_t count;
  const float* block_amax;  // null: candidates are multiplied by global_amax
  float global_amax;
  const float* hessian;  // null: the sum of squares
};

// The step of a static block (calibration.md, 3.4).
HALFTONE_HOST_DEVICE inline float static_nvfp4_step(float amax_of_block,
                                                    const Nvfp4Search& search) {
  const float scaled = amax_of_block / 6.0f * search.to_e4m3;
  const float bounded = scaled > 448.0f ? 448.0f : scaled;
  return float_of_e4m3(e4m3_of_float(bounded)) * search.from_e4m3;
}

// A step that is not positive and finite gives zeros.
HALFTONE_HOST_DEVICE inline float static_nvfp4_error(float w, float step) {
  const float y = round_to_e2m1(w / step) * step;
  const bool usable = bits_of(step) - 1u < 0x7f7fffffu;
  return w - (usable ? y : 0.0f);
}

}  // namespace halftone
