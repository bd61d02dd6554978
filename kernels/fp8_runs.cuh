#pragma once

#include "kernels/cuda_runs.cuh"
#include "kernels/fp8_elements.h"

// e4m3 by runs of eight, two codes an instruction where the GPU has one (compute capability 8.9).
namespace halftone::cuda {

// Codes of numbers within [-464, 464]; beyond, and of NaN, that of +-448.
__device__ inline Pack<uint8_t, kRun> e4m3_of_floats(const float* x) {
  Pack<uint8_t, kRun> codes;
#pragma unroll
  for (int pair = 0; pair < kRun / 2; ++pair) {
#if __CUDA_ARCH__ >= 890
    uint16_t both;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;"
        : "=h"(both)
        : "f"(x[2 * pair + 1]), "f"(x[2 * pair]));
    memcpy(&codes.v[2 * pair], &both, sizeof(both));
#else
#pragma unroll
    for (int i = 2 * pair; i < 2 * pair + 2; ++i) {
      codes.v[i] = e4m3_of_float(fminf(fmaxf(x[i], -448.0f), 448.0f));
    }
#endif
  }
  return codes;
}

__device__ inline void floats_of_e4m3(const Pack<uint8_t, kRun>& codes, float* x) {
#pragma unroll
  for (int pair = 0; pair < kRun / 2; ++pair) {
#if __CUDA_ARCH__ >= 890
    uint16_t both;
    memcpy(&both, &codes.v[2 * pair], sizeof(both));
    uint32_t word;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(word) : "h"(both));
    __half2 halves;
    memcpy(&halves, &word, sizeof(word));
    const float2 values = __half22float2(halves);
    x[2 * pair] = values.x;
    x[2 * pair + 1] = values.y;
#else
    x[2 * pair] = float_of_e4m3(codes.v[2 * pair]);
    x[2 * pair + 1] = float_of_e4m3(codes.v[2 * pair + 1]);
#endif
  }
}

// Whether one of four codes is NaN: its seven lower bits are set.
__device__ inline bool has_nan_code(uint32_t codes) {
  return (((codes & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u) != 0;
}

// Codes of w / scale, where the quotient is rounded to Rounded first: the element's own type or
// F32Element (formats-and-hf-export.md, 2.3 to 2.5).
template <typename Element, typename Rounded>
struct QuantizeFp8 {
  float scale;
  Division by;

  HALFTONE_HOST_DEVICE explicit QuantizeFp8(float of_row)
      : scale(of_row), by(division_by<Element>(of_row, 460.0f)) {}

  __device__ uint8_t operator()(typename Element::Storage w) const {
    return e4m3_of_float(round_significand<Rounded>(Element::load(w) / scale));
  }
  __device__ Pack<uint8_t, kRun> run(const RunOf<Element>& w) const {
    if (!by.fits(largest_magnitude<Element>(w))) {
      return one_by_one<uint8_t>(*this, w);
    }
    float x[kRun];
    floats_of<Element>(w, x);
#pragma unroll
    for (float& value : x) value = by.of(value);
    floats_of<Rounded>(run_of<Rounded>(x), x);
    return e4m3_of_floats(x);
  }
};

template <typename Element>
struct DequantizeFp8 {
  float scale;

  __device__ typename Element::Storage operator()(uint8_t code) const {
    return Element::store(float_of_e4m3(code) * scale);
  }
  __device__ RunOf<Element> run(const Pack<uint8_t, kRun>& codes) const {
    if (has_nan_code(four_bytes(codes, 0)) || has_nan_code(four_bytes(codes, 1)) ||
        !isfinite(scale)) {
      return one_by_one<typename Element::Storage>(*this, codes);
    }
    float x[kRun];
    floats_of_e4m3(codes, x);
#pragma unroll
    for (float& value : x) value *= scale;
    return run_of<Element>(x);
  }
};

template <typename Element>
struct FakeQuantizeFp8 {
  float s;
  float inverse;

  __device__ typename Element::Storage operator()(typename Element::Storage x) const {
    return Element::store(fake_fp8(Element::load(x), s, inverse));
  }
  __device__ RunOf<Element> run(const RunOf<Element>& x_run) const {
    if (largest_magnitude<Element>(x_run) > Element::kInfinity || !isfinite(s) ||
        !isfinite(inverse)) {
      return one_by_one<typename Element::Storage>(*this, x_run);
    }
    float x[kRun];
    floats_of<Element>(x_run, x);
#pragma unroll
    for (float& value : x) value *= s;
    floats_of_e4m3(e4m3_of_floats(x), x);
#pragma unroll
    for (float& value : x) value *= inverse;
    return run_of<Element>(x);
  }
};

}  // namespace halftone::cuda
