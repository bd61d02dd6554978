#include "kernels/int8_cuda.h"

#include "kernels/cuda_runs.cuh"
#include "kernels/integer_elements.h"

namespace halftone::cuda {
namespace {

template <typename Element>
struct Quantize {
  float scale;
  Division by;

  HALFTONE_HOST_DEVICE explicit Quantize(float of_row)
      : scale(of_row), by(division_by<Element>(of_row, 127.25f)) {}

  __device__ int8_t operator()(typename Element::Storage w) const {
    return int8_code(Element::load(w), scale);
  }
  __device__ Pack<int8_t, kRun> run(const RunOf<Element>& w) const {
    if (!by.fits(largest_magnitude<Element>(w))) return one_by_one<int8_t>(*this, w);
    float x[kRun];
    floats_of<Element>(w, x);
    uint32_t integers[kRun];
#pragma unroll
    for (int i = 0; i < kRun; ++i) integers[i] = bits_of(by.of(x[i]) + kHalfToEven);
    return low_bytes<int8_t>(integers);
  }
};

template <typename Element>
struct Dequantize {
  float scale;

  __device__ typename Element::Storage operator()(int8_t code) const {
    return Element::store(static_cast<float>(code) * scale);
  }
  __device__ RunOf<Element> run(const Pack<int8_t, kRun>& codes) const {
    if (!isfinite(scale)) return one_by_one<typename Element::Storage>(*this, codes);
    float x[kRun];
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      // A code + 128 has its sign bit turned over.
      const uint32_t shifted = four_bytes(codes, i / 4) ^ 0x80808080u;
      x[i] = (byte_above_2_23(shifted, i % 4) - (0x1p23f + 128.0f)) * scale;
    }
    return run_of<Element>(x);
  }
};

template <typename Element>
struct FakeQuantize {
  float scale;
  Division by;

  explicit FakeQuantize(float of_tensor)
      : scale(of_tensor), by(division_of_integers_by(of_tensor)) {}

  __device__ typename Element::Storage operator()(typename Element::Storage x) const {
    return Element::store(fake_integer(Element::load(x), scale, -128.0f, 127.0f));
  }
  __device__ RunOf<Element> run(const RunOf<Element>& x_run) const {
    if (by.most < 0 || largest_magnitude<Element>(x_run) > Element::kInfinity) {
      return one_by_one<typename Element::Storage>(*this, x_run);
    }
    float x[kRun];
    floats_of<Element>(x_run, x);
#pragma unroll
    for (float& value : x) value = by.of(rintf(fmaxf(fminf(value * scale, 127.0f), -128.0f)));
    return run_of<Element>(x);
  }
};

}  // namespace

void quantize_int8_rows(const Context& context, const MatrixView& w_NK, const float* scale_N,
                        int8_t* codes_NK) {
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    launch_map_rows(context, w, w_NK.rows, w_NK.cols, codes_NK,
                    WithScaleOfRow<Quantize<Element>>{scale_N});
  });
}

void dequantize_int8_rows(const Context& context, const int8_t* codes_NK, int64_t rows,
                          int64_t cols, const float* scale_N, DType dtype, void* w_NK) {
  with_element(dtype, [&](auto type) {
    using Element = decltype(type);
    auto* w = static_cast<typename Element::Storage*>(w_NK);
    launch_map_rows(context, codes_NK, rows, cols, w, WithScaleOfRow<Dequantize<Element>>{scale_N});
  });
}

void fake_quantize_int8(const Context& context, const MatrixView& x_TK, float amax, void* y_TK) {
  if (x_TK.count() == 0) return;
  if (is_no_amax(amax)) {
    check_cuda(cudaMemsetAsync(y_TK, 0, static_cast<size_t>(x_TK.bytes()), stream_of(context)),
               "cudaMemsetAsync");
    return;
  }
  with_element(x_TK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* x = static_cast<const typename Element::Storage*>(x_TK.data);
    auto* y = static_cast<typename Element::Storage*>(y_TK);
    launch_map_rows(context, x, 1, x_TK.count(), y,
                    SameForEveryRow<FakeQuantize<Element>>{FakeQuantize<Element>(127.0f / amax)});
  });
}

}  // namespace halftone::cuda
