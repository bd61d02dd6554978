#include "kernels/int8_cuda.h"

#include "kernels/cuda_loops.cuh"
#include "kernels/integer_elements.h"

namespace halftone::cuda {
namespace {

template <typename Element>
struct Quantize {
  float scale;
  __device__ int8_t operator()(typename Element::Storage w) const {
    return int8_code(Element::load(w), scale);
  }
};

template <typename Element>
struct Dequantize {
  float scale;
  __device__ typename Element::Storage operator()(int8_t code) const {
    return Element::store(static_cast<float>(code) * scale);
  }
};

template <typename Element>
struct FakeQuantize {
  float scale;
  __device__ typename Element::Storage operator()(typename Element::Storage x) const {
    return Element::store(fake_integer(Element::load(x), scale, -128.0f, 127.0f));
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
                    SameForEveryRow<FakeQuantize<Element>>{{127.0f / amax}});
  });
}

}  // namespace halftone::cuda
