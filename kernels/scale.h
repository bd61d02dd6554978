#pragma once

#include "kernels/context.h"

namespace halftone {

inline constexpr float kMaxE4M3 = 448.0f;
inline constexpr float kMaxE2M1 = 6.0f;
inline constexpr float kMaxInt8 = 127.0f;
inline constexpr float kMaxInt4 = 7.0f;
// NVFP4's second-level scale is amax / (6 * 448).
inline constexpr float kMaxNvfp4 = 2688.0f;

// amax / bound by a constant known on the host: rounded once on the CPU, multiplied by the rounded
// reciprocal on CUDA (formats-and-hf-export.md, 2.1).
inline float divide_by_constant(float amax, float bound, Numerics numerics) {
  return numerics == Numerics::kCpu ? amax / bound : amax * (1.0f / bound);
}

}  // namespace halftone
