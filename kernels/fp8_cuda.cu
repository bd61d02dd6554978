#include "kernels/fp8_cuda.h"

#include "kernels/fp8_runs.cuh"

namespace halftone::cuda {
namespace {

template <typename Of>
struct WithScaleOfTile {
  const float* scale;
  int64_t tile;
  int64_t tiles_of_row;
  __device__ auto operator()(int64_t row) const {
    const float* const of_row = scale + row / tile * tiles_of_row;
    return [of_row](uint32_t block) { return Of{of_row[block]}; };
  }
};

template <typename In, typename Out, typename Of>
void launch(const Context& context, const In* in, int64_t count, Out* out, const Of& element) {
  launch_map_rows(context, in, 1, count, out, SameForEveryRow<Of>{element});
}

// A block of threads for a row: its amax, then its elements, which the cache still has.
template <typename Element>
__global__ void fake_quantize_tokens(const typename Element::Storage* x, int64_t rows, int64_t cols,
                                     bool aligned, typename Element::Storage* y) {
  using Storage = typename Element::Storage;
  __shared__ uint32_t largest;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const Storage* const from = x + row * cols;
    Storage* const to = y + row * cols;
    if (threadIdx.x == 0) largest = 0;
    __syncthreads();
    uint32_t mine = 0;
    uint32_t of_runs = 0;
    for_runs_of_row(
        cols, RunsOfRow<Storage>{from, aligned},
        [&](int64_t, const RunOf<Element>& run) { of_runs = magnitudes_of(run, of_runs); },
        [&](int64_t c) { mine = max(mine, Element::magnitude(from[c])); });
    mine = max_of_warp(max(mine, largest_of<Element>(of_runs)));
    if (threadIdx.x % kWarp == 0) atomicMax(&largest, mine);
    __syncthreads();
    const float s = 448.0f / fp8_bound(Element::of_magnitude(largest));
    const FakeQuantizeFp8<Element> element{s, 1.0f / s};
    for_runs_of_row(
        cols, RunsOfRow<Storage>{from, aligned},
        [&](int64_t i, const RunOf<Element>& run) {
          store_run<Storage, kRun>(element.run(run), to + i * kRun, aligned);
        },
        [&](int64_t c) { to[c] = element(from[c]); });
    __syncthreads();  // largest is used again for the next row
  }
}

}  // namespace

void quantize_fp8(const Context& context, const MatrixView& w_NK, float scale, uint8_t* codes_NK) {
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    launch(context, w, w_NK.count(), codes_NK, QuantizeFp8<Element, Element>(scale));
  });
}

void dequantize_fp8(const Context& context, const uint8_t* codes_NK, int64_t count, float scale,
                    DType dtype, void* w_NK) {
  with_element(dtype, [&](auto type) {
    using Element = decltype(type);
    auto* w = static_cast<typename Element::Storage*>(w_NK);
    launch(context, codes_NK, count, w, DequantizeFp8<Element>{scale});
  });
}

void fake_quantize_fp8(const Context& context, const MatrixView& x_TK, float amax, void* y_TK) {
  const float s = 448.0f / amax;
  with_element(x_TK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* x = static_cast<const typename Element::Storage*>(x_TK.data);
    auto* y = static_cast<typename Element::Storage*>(y_TK);
    launch(context, x, x_TK.count(), y, FakeQuantizeFp8<Element>{s, 1.0f / s});
  });
}

void quantize_fp8_rows(const Context& context, const MatrixView& w_NK, const float* scale_N,
                       uint8_t* codes_NK) {
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    launch_map_rows(context, w, w_NK.rows, w_NK.cols, codes_NK,
                    WithScaleOfRow<QuantizeFp8<Element, F32Element>>{scale_N});
  });
}

void dequantize_fp8_rows(const Context& context, const uint8_t* codes_NK, int64_t rows,
                         int64_t cols, const float* scale_N, DType dtype, void* w_NK) {
  with_element(dtype, [&](auto type) {
    using Element = decltype(type);
    auto* w = static_cast<typename Element::Storage*>(w_NK);
    launch_map_rows(context, codes_NK, rows, cols, w,
                    WithScaleOfRow<DequantizeFp8<Element>>{scale_N});
  });
}

void quantize_fp8_tiles(const Context& context, const MatrixView& w_NK, int64_t tile,
                        const float* scale, uint8_t* codes_NK) {
  const int64_t tiles = (w_NK.cols + tile - 1) / tile;
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    launch_map_blocks(context, w, w_NK.rows, w_NK.cols, tile, codes_NK,
                      WithScaleOfTile<QuantizeFp8<Element, F32Element>>{scale, tile, tiles});
  });
}

void dequantize_fp8_tiles(const Context& context, const uint8_t* codes_NK, int64_t rows,
                          int64_t cols, int64_t tile, const float* scale, DType dtype, void* w_NK) {
  const int64_t tiles = (cols + tile - 1) / tile;
  with_element(dtype, [&](auto type) {
    using Element = decltype(type);
    auto* w = static_cast<typename Element::Storage*>(w_NK);
    launch_map_blocks(context, codes_NK, rows, cols, tile, w,
                      WithScaleOfTile<DequantizeFp8<Element>>{scale, tile, tiles});
  });
}

void fake_quantize_fp8_tokens(const Context& context, const MatrixView& x_TK, void* y_TK) {
  if (x_TK.count() == 0) return;
  with_element(x_TK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* x = static_cast<const typename Element::Storage*>(x_TK.data);
    auto* y = static_cast<typename Element::Storage*>(y_TK);
    const bool aligned = has_aligned_rows(x, y, x_TK.rows, x_TK.cols);
    const dim3 blocks(1, static_cast<unsigned>(std::min<int64_t>(x_TK.rows, 65535)));
    fake_quantize_tokens<Element>
        <<<blocks, kThreads, 0, stream_of(context)>>>(x, x_TK.rows, x_TK.cols, aligned, y);
  });
  check_cuda(cudaGetLastError(), "fake_quantize_fp8_tokens");
}

}  // namespace halftone::cuda
