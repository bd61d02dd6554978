#pragma once

#include "kernels/context.h"
#include "kernels/numeric_types.h"

namespace halftone {

// The e4m3 code of a block's scale, d = fp32(6 * scale_2) (formats-and-hf-export.md, 2.9). A NaN in
// the block gives NaN.
HALFTONE_HOST_DEVICE inline uint8_t nvfp4_block_scale(float amax_of_block, float d) {
  const float quotient = amax_of_block / d;
  const float positive = quotient == 0.0f ? 1.0f : quotient;
  const float above = positive < 0x1p-9f ? 0x1p-9f : positive;
  return e4m3_of_float(above > 448.0f ? 448.0f : above);
}

// What the block scales of the static kind have in common (formats-and-hf-export.md, 2.10).
struct StaticNvfp4 {
  float g6;     // fp32(global amax) / 6
  float m;      // 448, or 256 for four-over-six
  float sixth;  // fp32(1 / 6)
  Numerics numerics;
};

// A block with amax 0 counts as one with amax 6.
HALFTONE_HOST_DEVICE inline uint8_t static_nvfp4_scale(float amax_of_block,
                                                       const StaticNvfp4& scale) {
  const float ps =
      scale.numerics == Numerics::kCpu ? amax_of_block / 6.0f : amax_of_block * scale.sixth;
  const float v = (ps == 0.0f ? 1.0f : ps) * scale.m / scale.g6;
  const float above = v < 0x1p-9f ? 0x1p-9f : v;
  return e4m3_of_float(above > 448.0f ? 448.0f : above);
}

// The step of a dynamic block in fake quantization, d = fp32(6 * g) (calibration.md, 3.3).
HALFTONE_HOST_DEVICE inline float fake_nvfp4_step(float amax_of_block, float d, float g) {
  const float quotient = amax_of_block / d;
  const float bounded = quotient > 448.0f ? 448.0f : quotient;
  const float step = float_of_e4m3(e4m3_of_float(bounded)) * g;
  return step < 1e-5f ? 1.0f : step;
}

// float_of_e2m1(e2m1_of_float(value)) without the code in between.
HALFTONE_HOST_DEVICE inline float round_to_e2m1(float value) {
  constexpr uint32_t kSix = 0x40c00000u;
  const uint32_t bits = bits_of(value);
  const uint32_t magnitude = (bits & 0x7fffffffu) < kSix ? bits & 0x7fffffffu : kSix;
  const uint32_t normal = (magnitude + 0x1fffffu + ((magnitude >> 22) & 1u)) & 0xffc00000u;
  const uint32_t below_one = bits_of(float_of_bits(magnitude) + 4194304.0f - 4194304.0f);
  const uint32_t sign = bits - 0x80000001u < 0x7f800000u ? 0x80000000u : 0u;
  return float_of_bits(sign | (magnitude < 0x3f800000u ? below_one : normal));
}

}  // namespace halftone
