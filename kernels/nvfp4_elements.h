#pragma once

#include "kernels/numeric_types.h"

namespace halftone {

inline constexpr int64_t kNvfp4Activation = 16;  // an activation's block, whatever the weight's is

// The e4m3 code of a block's scale, d = fp32(6 * scale_2) (formats-and-hf-export.md, 2.9). A NaN in
// the block gives NaN.
HALFTONE_HOST_DEVICE inline uint8_t nvfp4_block_scale(float amax_of_block, float d) {
  const float quotient = amax_of_block / d;
  const float positive = quotient == 0.0f ? 1.0f : quotient;
  const float above = positive < 0x1p-9f ? 0x1p-9f : positive;
  return e4m3_of_float(above > 448.0f ? 448.0f : above);
}

// The step of a block of an activation, d = fp32(6 * g) (calibration.md, 3.3).
HALFTONE_HOST_DEVICE inline float fake_nvfp4_step(float amax_of_block, float d, float g) {
  const float quotient = amax_of_block / d;
  const float bounded = quotient > 448.0f ? 448.0f : quotient;
  const float step = float_of_e4m3(e4m3_of_float(bounded)) * g;
  return step < 1e-5f ? 1.0f : step;
}

HALFTONE_HOST_DEVICE inline float round_to_e2m1(float value) {
  return float_of_e2m1(e2m1_of_float(value));
}

}  // namespace halftone
