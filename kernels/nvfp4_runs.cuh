#pragma once

#include "kernels/cuda_runs.cuh"
#include "kernels/nvfp4_elements.h"

// e2m1 by runs of eight: codes are found and put together in fp32, which has twice the units that
// integers have.
namespace halftone::cuda {

// Quotients up to this have a code of their own: above 7 they would round to one behind the last.
inline constexpr float kMostE2m1Quotient = 6.9f;

// A run without its signs.
template <typename Element>
__device__ void magnitudes_as_floats(const RunOf<Element>& run, float* x) {
  if constexpr (Element::kDType == DType::kBF16) {
#pragma unroll
    for (int pair = 0; pair < kRun / 2; ++pair) {
      const uint32_t word = word_of(run, pair) & 0x7fff7fffu;
      x[2 * pair] = float_of_bits(word << 16);
      x[2 * pair + 1] = float_of_bits(word & 0xffff0000u);
    }
  } else {
    floats_of<Element>(run, x);
#pragma unroll
    for (int i = 0; i < kRun; ++i) x[i] = fabsf(x[i]);
  }
}

// The run with +0 for -0.
template <typename Element>
__device__ RunOf<Element> without_negative_zeros(const RunOf<Element>& run) {
  RunOf<Element> result;
#pragma unroll
  for (int pair = 0; pair < kRun / 2; ++pair) {
    if constexpr (Element::kDType == DType::kF32) {
      result.v[2 * pair] = __fadd_rn(run.v[2 * pair], 0.0f);
      result.v[2 * pair + 1] = __fadd_rn(run.v[2 * pair + 1], 0.0f);
    } else if constexpr (Element::kDType == DType::kBF16) {
      __nv_bfloat162 both;
      memcpy(&both, &run.v[2 * pair], sizeof(both));
      both = __hfma2(both, __float2bfloat162_rn(1.0f), __float2bfloat162_rn(0.0f));
      memcpy(&result.v[2 * pair], &both, sizeof(both));
    } else {
      __half2 both;
      memcpy(&both, &run.v[2 * pair], sizeof(both));
      both = __hadd2_rn(both, __float2half2_rn(0.0f));
      memcpy(&result.v[2 * pair], &both, sizeof(both));
    }
  }
  return result;
}

// The signs of a run at bits 3, 7, ... 31.
template <typename Element>
__device__ uint32_t nibble_signs(const RunOf<Element>& run) {
  const RunOf<Element> x = without_negative_zeros<Element>(run);
  const uint32_t first = __byte_perm(word_of(x, 0), word_of(x, 1), 0x7531);
  const uint32_t last = __byte_perm(word_of(x, 2), word_of(x, 3), 0x7531);
  const uint32_t even = __byte_perm(first, last, 0x6420);
  const uint32_t odd = __byte_perm(first, last, 0x7531);
  return ((even & 0x80808080u) >> 4) | (odd & 0x80808080u);
}

// The code without sign of 0 <= q <= kMostE2m1Quotient, above 2^23: the grids of the codes below 4,
// of 4 and 5, and of 6 and 7 have steps of 1/2, 1 and 2, and each is the smallest on its own part.
// Adding 2^23 rounds half to even, as the codes are.
__device__ inline float e2m1_index_above_2_23(float q) {
  const float halves = __fmaf_rn(q, 2.0f, 0x1p23f);
  const float ones = q + (0x1p23f + 2.0f);
  const float twos = __fmaf_rn(q, 0.5f, 0x1p23f + 4.0f);
  return fminf(fminf(halves, ones), twos);
}

// Eight nibbles: codes of x / by.divisor with the signs of nibble_signs().
__device__ inline uint32_t e2m1_codes(const float* magnitudes, const Division& by, uint32_t signs) {
  float index[kRun];
#pragma unroll
  for (int i = 0; i < kRun; ++i) index[i] = e2m1_index_above_2_23(by.of(magnitudes[i]));
  float four[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float* const c = index + 4 * half;
    const float low = __fmaf_rn(c[1] - 0x1p23f, 16.0f, c[0]);
    const float high = __fmaf_rn(c[3] - 0x1p23f, 16.0f, c[2]);
    four[half] = __fmaf_rn(high - 0x1p23f, 256.0f, low);
  }
  return __byte_perm(bits_of(four[0]), bits_of(four[1]), 0x5410) | signs;
}

// The numbers of eight nibbles: the upper halves of fp16 numbers, whose lower halves are zero.
__device__ inline void floats_of_e2m1(uint32_t codes, float* x) {
  constexpr uint32_t kSmall = 0x3e3c3800u;  // 0, 0.5, 1, 1.5
  constexpr uint32_t kLarge = 0x46444240u;  // 2, 3, 4, 6
  const uint32_t even_signs = (codes << 4) & 0x80808080u;
  const uint32_t odd_signs = codes & 0x80808080u;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint32_t of_half = half == 0 ? codes : codes >> 16;
    const uint32_t signs = __byte_perm(even_signs, odd_signs, half == 0 ? 0x5140 : 0x7362);
    const uint32_t bytes = __byte_perm(kSmall, kLarge, of_half & 0x7777u) | signs;
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const uint32_t word = __byte_perm(bytes, 0, pair == 0 ? 0x1404 : 0x3424);
      __half2 halves;
      memcpy(&halves, &word, sizeof(word));
      const float2 both = __half22float2(halves);
      x[4 * half + 2 * pair] = both.x;
      x[4 * half + 2 * pair + 1] = both.y;
    }
  }
}

// The e2m1 number nearest to q >= 0, as round_to_e2m1().
__device__ inline float round_magnitude_to_e2m1(float q) {
  const float bounded = fminf(q, 6.0f);
  const float grid = bounded < 2.0f ? 0x1p22f : bounded < 4.0f ? 0x1p23f : 0x1p24f;
  return bounded + grid - grid;
}

}  // namespace halftone::cuda
