#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda_loops.cuh"

// kRun neighbouring elements at once, with the processor's own conversions where they give the bits
// of numeric_types.h: for everything but NaN, whose spelling they change. What works on runs asks
// for the largest magnitude first and leaves runs with a NaN to the code for single elements.
namespace halftone::cuda {

static_assert(kRun == 8, "the runs below are taken apart by hand");

template <typename Element>
using RunOf = Pack<typename Element::Storage, kRun>;

// Elements 2 * pair (low half) and 2 * pair + 1 of a run of 16-bit elements.
__device__ inline uint32_t word_of(const Pack<uint16_t, kRun>& run, int pair) {
  uint32_t word;
  memcpy(&word, &run.v[2 * pair], sizeof(word));
  return word;
}

// The same for fp32: the upper halves of both, with their signs where 16-bit elements have them.
__device__ inline uint32_t word_of(const Pack<float, kRun>& run, int pair) {
  return __byte_perm(bits_of(run.v[2 * pair]), bits_of(run.v[2 * pair + 1]), 0x7632);
}

template <typename Element>
__device__ void floats_of(const RunOf<Element>& run, float* x) {
#pragma unroll
  for (int pair = 0; pair < kRun / 2; ++pair) {
    if constexpr (Element::kDType == DType::kF32) {
      x[2 * pair] = run.v[2 * pair];
      x[2 * pair + 1] = run.v[2 * pair + 1];
    } else if constexpr (Element::kDType == DType::kBF16) {
      const uint32_t word = word_of(run, pair);
      x[2 * pair] = float_of_bits(word << 16);
      x[2 * pair + 1] = float_of_bits(word & 0xffff0000u);
    } else {
      const uint32_t word = word_of(run, pair);
      __half2 halves;
      memcpy(&halves, &word, sizeof(word));
      const float2 both = __half22float2(halves);
      x[2 * pair] = both.x;
      x[2 * pair + 1] = both.y;
    }
  }
}

template <typename Element>
__device__ RunOf<Element> run_of(const float* x) {
  RunOf<Element> run;
#pragma unroll
  for (int pair = 0; pair < kRun / 2; ++pair) {
    if constexpr (Element::kDType == DType::kF32) {
      run.v[2 * pair] = x[2 * pair];
      run.v[2 * pair + 1] = x[2 * pair + 1];
    } else if constexpr (Element::kDType == DType::kBF16) {
      const __nv_bfloat162 both = __floats2bfloat162_rn(x[2 * pair], x[2 * pair + 1]);
      memcpy(&run.v[2 * pair], &both, sizeof(both));
    } else {
      const __half2 both = __floats2half2_rn(x[2 * pair], x[2 * pair + 1]);
      memcpy(&run.v[2 * pair], &both, sizeof(both));
    }
  }
  return run;
}

// Two magnitudes of 16-bit elements a word, so that a maximum costs one instruction for both.
__device__ inline uint32_t magnitudes_of(const Pack<uint16_t, kRun>& run, uint32_t most = 0) {
#pragma unroll
  for (int pair = 0; pair < kRun / 2; ++pair) {
    most = __vmaxu2(most, word_of(run, pair) & 0x7fff7fffu);
  }
  return most;
}

__device__ inline uint32_t magnitudes_of(const Pack<float, kRun>& run, uint32_t most = 0) {
#pragma unroll
  for (int i = 0; i < kRun; ++i) most = max(most, F32Element::magnitude(run.v[i]));
  return most;
}

// The larger of the magnitudes that magnitudes_of() has gathered.
template <typename Element>
__device__ uint32_t largest_of(uint32_t magnitudes) {
  if constexpr (Element::kDType == DType::kF32) return magnitudes;
  return max(magnitudes & 0xffffu, magnitudes >> 16);
}

template <typename Element>
__device__ uint32_t largest_magnitude(const RunOf<Element>& run) {
  return largest_of<Element>(magnitudes_of(run));
}

// Quotients by one divisor, rounded as IEEE division rounds them, sign of zero included, for
// magnitudes that fit(): the reciprocal and two corrections (Markstein, "Computation of elementary
// functions on the IBM RISC System/6000 processor", 1990, theorem 7: from a quotient within one
// last place and the nearest reciprocal, the correction gives the nearest quotient).
struct Division {
  float divisor;
  float reciprocal;
  int32_t most;  // the largest magnitude that fits, as an integer; negative: none does

  __device__ bool fits(uint32_t magnitude) const { return static_cast<int32_t>(magnitude) <= most; }
  __device__ float of(float x) const {
    const float guess = x * reciprocal;
    const float close = __fmaf_rn(-__fmaf_rn(guess, divisor, -x), reciprocal, guess);
    return __fmaf_rn(-__fmaf_rn(close, divisor, -x), reciprocal, close);
  }
};

// For elements whose quotient is at most `largest`. Quotients below 2^-10 may be off in their last
// places when they are subnormal: all formats take them for zero. Larger divisors would make zeros
// of elements that are none.
template <typename Element>
HALFTONE_HOST_DEVICE Division division_by(float divisor, float largest) {
  constexpr float kMostDivisor = Element::kDType == DType::kF32 ? 1.0f : 0x1p16f;
  if (!(divisor >= 0x1p-60f && divisor <= kMostDivisor)) return {1.0f, 1.0f, -1};
  const float bound = divisor * largest;
  const uint32_t nearest = Element::magnitude(Element::store(bound));
  const uint32_t below = Element::of_magnitude(nearest) > bound ? nearest - 1u : nearest;
  return {divisor, 1.0f / divisor, static_cast<int32_t>(below)};
}

// For whole numbers of a few digits as elements, zeros among them.
HALFTONE_HOST_DEVICE inline Division division_of_integers_by(float divisor) {
  const bool usable = divisor >= 0x1p-60f && divisor <= 0x1p60f;
  return usable ? Division{divisor, 1.0f / divisor, 0} : Division{1.0f, 1.0f, -1};
}

// fp32 numbers at 1.5 * 2^23 are 1 apart: adding it rounds half to even, and the low bits of the
// sum are the integer in two's complement.
inline constexpr float kHalfToEven = 12582912.0f;

// The low bytes of eight words.
template <typename Byte>
__device__ Pack<Byte, kRun> low_bytes(const uint32_t* words) {
  Pack<Byte, kRun> bytes;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint32_t* const four = words + 4 * half;
    const uint32_t all = __byte_perm(__byte_perm(four[0], four[1], 0x0040),
                                     __byte_perm(four[2], four[3], 0x0040), 0x5410);
    memcpy(&bytes.v[4 * half], &all, sizeof(all));
  }
  return bytes;
}

// fp32 numbers at 2^23 are 1 apart: byte i of `bytes` in the last place makes the number 2^23 + it.
__device__ inline float byte_above_2_23(uint32_t bytes, int i) {
  return float_of_bits(__byte_perm(bytes, 0x4b000000u, 0x7440u + static_cast<unsigned>(i)));
}

template <typename Byte>
__device__ uint32_t four_bytes(const Pack<Byte, kRun>& run, int half) {
  uint32_t word;
  memcpy(&word, &run.v[4 * half], sizeof(word));
  return word;
}

}  // namespace halftone::cuda
