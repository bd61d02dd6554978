#include "kernels/nvfp4_cuda.h"

#include <type_traits>

#include "kernels/cuda_loops.cuh"
#include "kernels/nvfp4_elements.h"

namespace halftone::cuda {
namespace {

// One thread has one block of elements from its amax to its codes.
template <typename Element, int kBlock>
__device__ float amax_of_block(const Pack<typename Element::Storage, kBlock>& block) {
  uint32_t largest = 0;
  for (int i = 0; i < kBlock; ++i) largest = max(largest, Element::magnitude(block.v[i]));
  return Element::of_magnitude(largest);
}

// block_scales are written (kGiven false) or read.
template <typename Element, int kBlock, bool kGiven>
__global__ void quantize(const typename Element::Storage* w, int64_t blocks, float scale_2,
                         bool aligned, uint8_t* packed,
                         std::conditional_t<kGiven, const uint8_t*, uint8_t*> block_scales) {
  using Storage = typename Element::Storage;
  const float d = 6.0f * scale_2;
  for (int64_t b = blockIdx.x * int64_t{kThreads} + threadIdx.x; b < blocks;
       b += int64_t{gridDim.x} * kThreads) {
    const auto block = load_run<Storage, kBlock>(w + b * kBlock, aligned);
    uint8_t scale;
    if constexpr (kGiven) {
      scale = block_scales[b];
    } else {
      scale = nvfp4_block_scale(amax_of_block<Element, kBlock>(block), d);
      block_scales[b] = scale;
    }
    const float step = float_of_e4m3(scale) * scale_2;
    Pack<uint8_t, kBlock / 2> bytes;
    for (int i = 0; i < kBlock / 2; ++i) {
      const uint8_t even = e2m1_of_float(Element::load(block.v[2 * i]) / step);
      const uint8_t odd = e2m1_of_float(Element::load(block.v[2 * i + 1]) / step);
      bytes.v[i] = static_cast<uint8_t>(even | (odd << 4));
    }
    store_run<uint8_t, kBlock / 2>(bytes, packed + b * (kBlock / 2), aligned);
  }
}

__global__ void static_scales(const float* block_amax, int64_t count, StaticNvfp4 scale,
                              uint8_t* block_scales) {
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * kThreads) {
    block_scales[i] = static_nvfp4_scale(block_amax[i], scale);
  }
}

template <typename Element, int kBlock>
__global__ void dequantize(const uint8_t* packed, const uint8_t* block_scales, int64_t blocks,
                           float scale_2, bool aligned, typename Element::Storage* w) {
  using Storage = typename Element::Storage;
  for (int64_t b = blockIdx.x * int64_t{kThreads} + threadIdx.x; b < blocks;
       b += int64_t{gridDim.x} * kThreads) {
    const float step = float_of_e4m3(block_scales[b]) * scale_2;
    const auto bytes = load_run<uint8_t, kBlock / 2>(packed + b * (kBlock / 2), aligned);
    Pack<Storage, kBlock> block;
    for (int i = 0; i < kBlock / 2; ++i) {
      block.v[2 * i] = Element::store(float_of_e2m1(bytes.v[i] & 15u) * step);
      block.v[2 * i + 1] = Element::store(float_of_e2m1(bytes.v[i] >> 4) * step);
    }
    store_run<Storage, kBlock>(block, w + b * kBlock, aligned);
  }
}

// In place is allowed: a block is read before it is written. column_scale may be null.
template <typename Element, int kBlock>
__global__ void fake_quantize(const typename Element::Storage* x, const float* column_scale,
                              int64_t rows, int64_t cols, float g, typename Element::Storage* y) {
  const float d = 6.0f * g;
  const int64_t blocks_of_row = (cols + kBlock - 1) / kBlock;
  for (int64_t b = blockIdx.x * int64_t{kThreads} + threadIdx.x; b < rows * blocks_of_row;
       b += int64_t{gridDim.x} * kThreads) {
    const int64_t column = b % blocks_of_row * kBlock;
    const int64_t at = b / blocks_of_row * cols + column;
    const int size = static_cast<int>(min(int64_t{kBlock}, cols - column));
    Pack<typename Element::Storage, kBlock> block = {};
    for (int i = 0; i < kBlock; ++i) {
      if (i >= size) continue;
      block.v[i] = x[at + i];
      if (column_scale != nullptr) {
        block.v[i] = Element::store(Element::load(block.v[i]) * column_scale[column + i]);
      }
    }
    const float step = fake_nvfp4_step(amax_of_block<Element, kBlock>(block), d, g);
    for (int i = 0; i < kBlock; ++i) {
      if (i >= size) continue;
      y[at + i] = Element::store(round_to_e2m1(Element::load(block.v[i]) / step) * step);
    }
  }
}

template <typename Element, int kBlock, bool kGiven, typename Scales>
void launch_quantize(const Context& context, const MatrixView& w_NK, float scale_2, uint8_t* packed,
                     Scales block_scales) {
  using Storage = typename Element::Storage;
  const auto* w = static_cast<const Storage*>(w_NK.data);
  const int64_t blocks = w_NK.count() / kBlock;
  const bool aligned = is_aligned(w, alignof(Pack<Storage, kBlock>)) && is_aligned(packed, 16);
  quantize<Element, kBlock, kGiven><<<blocks_for(blocks), kThreads, 0, stream_of(context)>>>(
      w, blocks, scale_2, aligned, packed, block_scales);
}

template <typename Element, int kBlock>
void launch_dequantize(const Context& context, const uint8_t* packed, const uint8_t* block_scales,
                       int64_t count, float scale_2, typename Element::Storage* w) {
  using Storage = typename Element::Storage;
  const int64_t blocks = count / kBlock;
  const bool aligned = is_aligned(w, alignof(Pack<Storage, kBlock>)) && is_aligned(packed, 16);
  dequantize<Element, kBlock><<<blocks_for(blocks), kThreads, 0, stream_of(context)>>>(
      packed, block_scales, blocks, scale_2, aligned, w);
}

template <typename Element, int kBlock>
void launch_fake_quantize(const Context& context, const MatrixView& x_TK, const float* column_scale,
                          float g, void* y_TK) {
  using Storage = typename Element::Storage;
  const int64_t blocks = x_TK.rows * ((x_TK.cols + kBlock - 1) / kBlock);
  fake_quantize<Element, kBlock><<<blocks_for(blocks), kThreads, 0, stream_of(context)>>>(
      static_cast<const Storage*>(x_TK.data), column_scale, x_TK.rows, x_TK.cols, g,
      static_cast<Storage*>(y_TK));
}

}  // namespace

void quantize_nvfp4(const Context& context, const MatrixView& w_NK, int block, float scale_2,
                    uint8_t* packed, uint8_t* block_scales) {
  if (w_NK.count() == 0) return;
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto launch = block == 16 ? launch_quantize<Element, 16, false, uint8_t*>
                                    : launch_quantize<Element, 32, false, uint8_t*>;
    launch(context, w_NK, scale_2, packed, block_scales);
  });
  check_cuda(cudaGetLastError(), "quantize_nvfp4");
}

void quantize_nvfp4_with_scales(const Context& context, const MatrixView& w_NK, int block,
                                const uint8_t* block_scales, float scale_2, uint8_t* packed) {
  if (w_NK.count() == 0) return;
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto launch = block == 16 ? launch_quantize<Element, 16, true, const uint8_t*>
                                    : launch_quantize<Element, 32, true, const uint8_t*>;
    launch(context, w_NK, scale_2, packed, block_scales);
  });
  check_cuda(cudaGetLastError(), "quantize_nvfp4_with_scales");
}

void static_nvfp4_scales(const Context& context, const float* block_amax, int64_t count,
                         const StaticNvfp4& scale, uint8_t* block_scales) {
  if (count == 0) return;
  static_scales<<<blocks_for(count), kThreads, 0, stream_of(context)>>>(block_amax, count, scale,
                                                                        block_scales);
  check_cuda(cudaGetLastError(), "static_nvfp4_scales");
}

void dequantize_nvfp4(const Context& context, const uint8_t* packed, const uint8_t* block_scales,
                      int64_t count, int block, float scale_2, DType dtype, void* w_NK) {
  if (count == 0) return;
  with_element(dtype, [&](auto type) {
    using Element = decltype(type);
    const auto launch =
        block == 16 ? launch_dequantize<Element, 16> : launch_dequantize<Element, 32>;
    launch(context, packed, block_scales, count, scale_2,
           static_cast<typename Element::Storage*>(w_NK));
  });
  check_cuda(cudaGetLastError(), "dequantize_nvfp4");
}

void fake_quantize_nvfp4(const Context& context, const MatrixView& x_TK,
                         const float* column_scale_K, int block, float g, void* y_TK) {
  if (x_TK.count() == 0) return;
  with_element(x_TK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto launch =
        block == 16 ? launch_fake_quantize<Element, 16> : launch_fake_quantize<Element, 32>;
    launch(context, x_TK, column_scale_K, g, y_TK);
  });
  check_cuda(cudaGetLastError(), "fake_quantize_nvfp4");
}

}  // namespace halftone::cuda
