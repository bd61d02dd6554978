#include "kernels/cuda_loops.cuh"
#include "kernels/nf4_cuda.h"
#include "kernels/nf4_elements.h"

namespace halftone::cuda {
namespace {

template <typename Element>
__device__ float absmax_of(const typename Element::Storage* w, int64_t count, int lane) {
  uint32_t largest = 0;
  for (int64_t i = lane; i < count; i += kWarp) largest = max(largest, Element::magnitude(w[i]));
  return F32Element::store(Element::of_magnitude(max_of_warp(largest)));
}

// One warp has one block of elements.
template <typename Way, typename Element>
__global__ void quantize(const typename Element::Storage* w, int64_t count, int64_t block,
                         const float* table, float* absmax, uint8_t* packed) {
  float choices[kNf4Entries];
#pragma unroll
  for (int i = 0; i < kNf4Entries; ++i) choices[i] = Way::prepare(table, i);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t blocks = (count + block - 1) / block;
  for (int64_t b = (blockIdx.x * int64_t{kThreads} + threadIdx.x) / kWarp; b < blocks;
       b += int64_t{gridDim.x} * (kThreads / kWarp)) {
    const int64_t at = b * block;
    const int64_t size = min(block, count - at);
    const bool whole = size == block;
    const float largest = absmax_of<Element>(w + at, size, lane);
    const float factor = Way::factor_of(largest, whole);
    if (lane == 0) absmax[b] = Way::stored(largest, whole);
    for (int64_t i = lane; i < (size + 1) / 2; i += kWarp) {
      const uint8_t even = Way::code(Element::load(w[at + 2 * i]), factor, whole, choices);
      const uint8_t odd = 2 * i + 1 < size
                              ? Way::code(Element::load(w[at + 2 * i + 1]), factor, whole, choices)
                              : Way::code(0.0f, 1.0f, whole, choices);
      packed[at / 2 + i] = static_cast<uint8_t>((even << 4) | odd);
    }
  }
}

template <typename Element>
__global__ void dequantize(const uint8_t* packed, const float* absmax, int64_t block,
                           const float* table, int64_t count, typename Element::Storage* w) {
  __shared__ float entries[kNf4Entries];
  if (threadIdx.x < kNf4Entries) entries[threadIdx.x] = table[threadIdx.x];
  __syncthreads();
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < (count + 1) / 2;
       i += int64_t{gridDim.x} * kThreads) {
    const uint8_t pair = packed[i];
    const float factor = absmax[2 * i / block];  // blocks are even: a pair is of one
    w[2 * i] = Element::store(entries[pair >> 4] * factor);
    if (2 * i + 1 < count) w[2 * i + 1] = Element::store(entries[pair & 15u] * factor);
  }
}

template <typename Way, typename Element>
void launch_quantize(const Context& context, const MatrixView& w, int64_t block, const float* table,
                     float* absmax, uint8_t* packed) {
  const int64_t blocks = (w.count() + block - 1) / block;
  quantize<Way, Element><<<blocks_for_warps(blocks), kThreads, 0, stream_of(context)>>>(
      static_cast<const typename Element::Storage*>(w.data), w.count(), block, table, absmax,
      packed);
}

}  // namespace

void quantize_nf4(const Context& context, const MatrixView& w, int64_t block, const float* table,
                  float* absmax, uint8_t* packed) {
  if (w.count() == 0) return;
  with_element(w.dtype, [&](auto type) {
    launch_quantize<Nf4ByMidpoints, decltype(type)>(context, w, block, table, absmax, packed);
  });
  check_cuda(cudaGetLastError(), "quantize_nf4");
}

void quantize_nf4_in_own_type(const Context& context, const MatrixView& w, int64_t block,
                              const float* table, float* absmax, uint8_t* packed) {
  if (w.count() == 0) return;
  with_element(w.dtype, [&](auto type) {
    using Element = decltype(type);
    launch_quantize<Nf4InType<Element>, Element>(context, w, block, table, absmax, packed);
  });
  check_cuda(cudaGetLastError(), "quantize_nf4_in_own_type");
}

void dequantize_nf4(const Context& context, const uint8_t* packed, const float* absmax,
                    int64_t block, const float* table, int64_t count, DType dtype, void* w) {
  if (count == 0) return;
  with_element(dtype, [&](auto type) {
    using Element = decltype(type);
    dequantize<Element><<<blocks_for((count + 1) / 2), kThreads, 0, stream_of(context)>>>(
        packed, absmax, block, table, count, static_cast<typename Element::Storage*>(w));
  });
  check_cuda(cudaGetLastError(), "dequantize_nf4");
}

}  // namespace halftone::cuda
