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

template <typename Element>
struct QuantizeOnce {
  float scale;
  __device__ uint8_t operator()(typename Element::Storage w) const {
    return fp8_code<F32Element>(Element::load(w), scale);
  }
};

template <typename Of>
struct WithScaleOfTile {
  const float* scale;
  int64_t tile;
  int64_t tiles_of_row;
  __device__ Of operator()(int64_t row, int64_t block) const {
    return Of{scale[row / tile * tiles_of_row + block]};
  }
};

template <typename In, typename Out, typename Of>
void launch(const Context& context, const In* in, int64_t count, Out* out, const Of& element) {
  launch_map_rows(context, in, 1, count, out, SameForEveryRow<Of>{element});
}

// A block of threads for a row: its amax, then its elements.
template <typename Element>
__global__ void fake_quantize_tokens(const typename Element::Storage* x, int64_t rows, int64_t cols,
                                     typename Element::Storage* y) {
  __shared__ uint32_t largest;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    if (threadIdx.x == 0) largest = 0;
    __syncthreads();
    uint32_t mine = 0;
    for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
      mine = max(mine, Element::magnitude(x[row * cols + c]));
    }
    mine = max_of_warp(mine);
    if (threadIdx.x % kWarp == 0) atomicMax(&largest, mine);
    __syncthreads();
    const float s = 448.0f / fp8_bound(Element::of_magnitude(largest));
    const FakeQuantize<Element> element{s, 1.0f / s};
    for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
      y[row * cols + c] = element(x[row * cols + c]);
    }
    __syncthreads();  // largest is used again for the next row
  }
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

void quantize_fp8_rows(const Context& context, const MatrixView& w_NK, const float* scale_N,
                       uint8_t* codes_NK) {
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    launch_map_rows(context, w, w_NK.rows, w_NK.cols, codes_NK,
                    WithScaleOfRow<QuantizeOnce<Element>>{scale_N});
  });
}

void dequantize_fp8_rows(const Context& context, const uint8_t* codes_NK, int64_t rows,
                         int64_t cols, const float* scale_N, DType dtype, void* w_NK) {
  with_element(dtype, [&](auto type) {
    using Element = decltype(type);
    auto* w = static_cast<typename Element::Storage*>(w_NK);
    launch_map_rows(context, codes_NK, rows, cols, w, WithScaleOfRow<Dequantize<Element>>{scale_N});
  });
}

void quantize_fp8_tiles(const Context& context, const MatrixView& w_NK, int64_t tile,
                        const float* scale, uint8_t* codes_NK) {
  const int64_t tiles = (w_NK.cols + tile - 1) / tile;
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    launch_map_blocks(context, w, w_NK.rows, w_NK.cols, tile, codes_NK,
                      WithScaleOfTile<QuantizeOnce<Element>>{scale, tile, tiles});
  });
}

void dequantize_fp8_tiles(const Context& context, const uint8_t* codes_NK, int64_t rows,
                          int64_t cols, int64_t tile, const float* scale, DType dtype, void* w_NK) {
  const int64_t tiles = (cols + tile - 1) / tile;
  with_element(dtype, [&](auto type) {
    using Element = decltype(type);
    auto* w = static_cast<typename Element::Storage*>(w_NK);
    launch_map_blocks(context, codes_NK, rows, cols, tile, w,
                      WithScaleOfTile<Dequantize<Element>>{scale, tile, tiles});
  });
}

void fake_quantize_fp8_tokens(const Context& context, const MatrixView& x_TK, void* y_TK) {
  if (x_TK.count() == 0) return;
  with_element(x_TK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* x = static_cast<const typename Element::Storage*>(x_TK.data);
    auto* y = static_cast<typename Element::Storage*>(y_TK);
    const auto blocks = static_cast<unsigned>(std::min<int64_t>(x_TK.rows, 1 << 20));
    fake_quantize_tokens<Element>
        <<<blocks, kThreads, 0, stream_of(context)>>>(x, x_TK.rows, x_TK.cols, y);
  });
  check_cuda(cudaGetLastError(), "fake_quantize_fp8_tokens");
}

}  // namespace halftone::cuda
