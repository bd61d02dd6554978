#include "kernels/mx_cuda.h"

#include "kernels/cuda_loops.cuh"
#include "kernels/mx_elements.h"

namespace halftone::cuda {
namespace {

constexpr int kBlock = static_cast<int>(kMxBlock);

// One thread has one block of elements from its amax to its codes.
template <typename Element>
__device__ float amax_of_block(const Pack<typename Element::Storage, kBlock>& block) {
  uint32_t largest = 0;
  for (int i = 0; i < kBlock; ++i) largest = max(largest, Element::magnitude(block.v[i]));
  return Element::of_magnitude(largest);
}

__device__ int64_t first_thread() {
  return blockIdx.x * int64_t{kThreads} + threadIdx.x;
}
__device__ int64_t all_threads() {
  return int64_t{gridDim.x} * kThreads;
}

template <typename Element>
__global__ void quantize_4(const typename Element::Storage* w, int64_t blocks, bool aligned,
                           uint8_t* packed, uint8_t* scales) {
  using Storage = typename Element::Storage;
  for (int64_t b = first_thread(); b < blocks; b += all_threads()) {
    const auto block = load_run<Storage, kBlock>(w + b * kBlock, aligned);
    const uint8_t scale = mx_scale<Mxfp4>(amax_of_block<Element>(block));
    const float inverse = inverse_of_e8m0(scale);
    Pack<uint8_t, kBlock / 2> bytes;
    for (int i = 0; i < kBlock / 2; ++i) {
      const uint8_t even = mxfp4_code(Element::load(block.v[2 * i]) * inverse);
      const uint8_t odd = mxfp4_code(Element::load(block.v[2 * i + 1]) * inverse);
      bytes.v[i] = static_cast<uint8_t>(even | (odd << 4));
    }
    scales[b] = scale;
    store_run<uint8_t, kBlock / 2>(bytes, packed + b * (kBlock / 2), aligned);
  }
}

template <typename Element>
__global__ void quantize_8(const typename Element::Storage* w, int64_t blocks, bool aligned,
                           uint8_t* codes, uint8_t* scales) {
  using Storage = typename Element::Storage;
  for (int64_t b = first_thread(); b < blocks; b += all_threads()) {
    const auto block = load_run<Storage, kBlock>(w + b * kBlock, aligned);
    const uint8_t scale = mx_scale<Mxfp8>(amax_of_block<Element>(block));
    const float inverse = inverse_of_e8m0(scale);
    Pack<uint8_t, kBlock> bytes;
    for (int i = 0; i < kBlock; ++i) bytes.v[i] = mxfp8_code(Element::load(block.v[i]) * inverse);
    scales[b] = scale;
    store_run<uint8_t, kBlock>(bytes, codes + b * kBlock, aligned);
  }
}

template <typename Element>
__global__ void dequantize_4(const uint8_t* packed, const uint8_t* scales, int64_t blocks,
                             bool aligned, typename Element::Storage* w) {
  using Storage = typename Element::Storage;
  for (int64_t b = first_thread(); b < blocks; b += all_threads()) {
    const float step = float_of_e8m0(scales[b]);
    const auto bytes = load_run<uint8_t, kBlock / 2>(packed + b * (kBlock / 2), aligned);
    Pack<Storage, kBlock> block;
    for (int i = 0; i < kBlock / 2; ++i) {
      block.v[2 * i] = Element::store(float_of_e2m1(bytes.v[i] & 15u) * step);
      block.v[2 * i + 1] = Element::store(float_of_e2m1(bytes.v[i] >> 4) * step);
    }
    store_run<Storage, kBlock>(block, w + b * kBlock, aligned);
  }
}

template <typename Element>
__global__ void dequantize_8(const uint8_t* codes, const uint8_t* scales, int64_t blocks,
                             bool aligned, typename Element::Storage* w) {
  using Storage = typename Element::Storage;
  for (int64_t b = first_thread(); b < blocks; b += all_threads()) {
    const float step = float_of_e8m0(scales[b]);
    const auto bytes = load_run<uint8_t, kBlock>(codes + b * kBlock, aligned);
    Pack<Storage, kBlock> block;
    for (int i = 0; i < kBlock; ++i) block.v[i] = Element::store(float_of_e4m3(bytes.v[i]) * step);
    store_run<Storage, kBlock>(block, w + b * kBlock, aligned);
  }
}

// In place is allowed: a block is read before it is written.
template <typename Format, typename Element>
__global__ void fake_quantize(const typename Element::Storage* x, int64_t rows, int64_t cols,
                              typename Element::Storage* y) {
  const int64_t blocks_of_row = (cols + kBlock - 1) / kBlock;
  for (int64_t b = first_thread(); b < rows * blocks_of_row; b += all_threads()) {
    const int64_t column = b % blocks_of_row * kBlock;
    const int64_t at = b / blocks_of_row * cols + column;
    const int size = static_cast<int>(min(int64_t{kBlock}, cols - column));
    Pack<typename Element::Storage, kBlock> block = {};
    for (int i = 0; i < kBlock; ++i) {
      if (i < size) block.v[i] = x[at + i];
    }
    const uint8_t scale = fake_mx_scale<Format>(amax_of_block<Element>(block));
    const float inverse = inverse_of_e8m0(scale);
    const float step = float_of_e8m0(scale);
    for (int i = 0; i < kBlock; ++i) {
      if (i >= size) continue;
      y[at + i] = Element::store(Format::round(Element::load(block.v[i]) * inverse) * step);
    }
  }
}

bool all_aligned(const void* values, const void* codes) {
  return is_aligned(values, 16) && is_aligned(codes, 16);
}

template <typename Format>
void launch_fake_quantize(const Context& context, const MatrixView& x_TK, void* y_TK) {
  if (x_TK.count() == 0) return;
  with_element(x_TK.dtype, [&](auto type) {
    using Element = decltype(type);
    using Storage = typename Element::Storage;
    const int64_t blocks = x_TK.rows * ((x_TK.cols + kBlock - 1) / kBlock);
    fake_quantize<Format, Element><<<blocks_for(blocks), kThreads, 0, stream_of(context)>>>(
        static_cast<const Storage*>(x_TK.data), x_TK.rows, x_TK.cols, static_cast<Storage*>(y_TK));
  });
  check_cuda(cudaGetLastError(), "fake_quantize_mx");
}

}  // namespace

void quantize_mxfp4(const Context& context, const MatrixView& w_NK, uint8_t* packed,
                    uint8_t* scales) {
  if (w_NK.count() == 0) return;
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    const int64_t blocks = w_NK.count() / kBlock;
    quantize_4<Element><<<blocks_for(blocks), kThreads, 0, stream_of(context)>>>(
        w, blocks, all_aligned(w, packed), packed, scales);
  });
  check_cuda(cudaGetLastError(), "quantize_mxfp4");
}

void quantize_mxfp8(const Context& context, const MatrixView& w_NK, uint8_t* codes,
                    uint8_t* scales) {
  if (w_NK.count() == 0) return;
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    const int64_t blocks = w_NK.count() / kBlock;
    quantize_8<Element><<<blocks_for(blocks), kThreads, 0, stream_of(context)>>>(
        w, blocks, all_aligned(w, codes), codes, scales);
  });
  check_cuda(cudaGetLastError(), "quantize_mxfp8");
}

void dequantize_mxfp4(const Context& context, const uint8_t* packed, const uint8_t* scales,
                      int64_t count, DType dtype, void* w_NK) {
  if (count == 0) return;
  with_element(dtype, [&](auto type) {
    using Element = decltype(type);
    const int64_t blocks = count / kBlock;
    dequantize_4<Element><<<blocks_for(blocks), kThreads, 0, stream_of(context)>>>(
        packed, scales, blocks, all_aligned(w_NK, packed),
        static_cast<typename Element::Storage*>(w_NK));
  });
  check_cuda(cudaGetLastError(), "dequantize_mxfp4");
}

void dequantize_mxfp8(const Context& context, const uint8_t* codes, const uint8_t* scales,
                      int64_t count, DType dtype, void* w_NK) {
  if (count == 0) return;
  with_element(dtype, [&](auto type) {
    using Element = decltype(type);
    const int64_t blocks = count / kBlock;
    dequantize_8<Element><<<blocks_for(blocks), kThreads, 0, stream_of(context)>>>(
        codes, scales, blocks, all_aligned(w_NK, codes),
        static_cast<typename Element::Storage*>(w_NK));
  });
  check_cuda(cudaGetLastError(), "dequantize_mxfp8");
}

void fake_quantize_mxfp4(const Context& context, const MatrixView& x_TK, void* y_TK) {
  launch_fake_quantize<Mxfp4>(context, x_TK, y_TK);
}

void fake_quantize_mxfp8(const Context& context, const MatrixView& x_TK, void* y_TK) {
  launch_fake_quantize<Mxfp8>(context, x_TK, y_TK);
}

}  // namespace halftone::cuda
