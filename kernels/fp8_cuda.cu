#include "kernels/fp8_cuda.h"

#include "kernels/cuda_loops.cuh"
#include "kernels/fp8_elements.h"

namespace halftone::cuda {
namespace {

template <typename Element>
struct Quantize {
  float scale;
  __device__ uint8_t operator()(typename Element::Storage w) const {
    return fp8_code<Element>(w, scale);
  }
};

template <typename Element>
struct Dequantize {
  float scale;
  __device__ typename Element::Storage operator()(uint8_t code) const {
    return Element::store(float_of_e4m3(code) * scale);
  }
};

template <typename Element>
struct FakeQuantize {
  float s;
  float inverse;
  __device__ typename Element::Storage operator()(typename Element::Storage x) const {
    return Element::store(fake_fp8(Element::load(x), s, inverse));
  }
};

// Every row is treated alike, so a matrix is one row.
template <typename Of>
struct SameForEveryRow {
  Of element;
  __device__ Of operator()(int64_t) const { return element; }
};

template <typename In, typename Out, typename Of>
void launch(const Context& context, const In* in, int64_t count, Out* out, const Of& element) {
  launch_map_rows(context, in, 1, count, out, SameForEveryRow<Of>{element});
}

}  // namespace

void quantize_fp8(const Context& context, const MatrixView& w_NK, float scale, uint8_t* codes_NK) {
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    launch(context, w, w_NK.count(), codes_NK, Quantize<Element>{scale});
  });
}

void dequantize_fp8(const Context& context, const uint8_t* codes_NK, int64_t count, float scale,
                    DType dtype, void* w_NK) {
  with_element(dtype, [&](auto type) {
    using Element = decltype(type);
    auto* w = static_cast<typename Element::Storage*>(w_NK);
    launch(context, codes_NK, count, w, Dequantize<Element>{scale});
  });
}

void fake_quantize_fp8(const Context& context, const MatrixView& x_TK, float amax, void* y_TK) {
  const float s = 448.0f / amax;
  with_element(x_TK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* x = static_cast<const typename Element::Storage*>(x_TK.data);
    auto* y = static_cast<typename Element::Storage*>(y_TK);
    launch(context, x, x_TK.count(), y, FakeQuantize<Element>{s, 1.0f / s});
  });
}

}  // namespace halftone::cuda
