#include <cmath>

#include "kernels/cuda_loops.cuh"
#include "kernels/nvfp4_search_cuda.h"

namespace halftone::cuda {
namespace {

__device__ float sum_of_squares(const float* dw) {
  float error = 0.0f;
#pragma unroll
  for (int c = 0; c < kSearchBlock; ++c) error += dw[c] * dw[c];
  return error;
}

__device__ float quadratic_form(const float* dw, const float* hessian) {
  float error = 0.0f;
#pragma unroll
  for (int i = 0; i < kSearchBlock; ++i) {
    float product = 0.0f;
#pragma unroll
    for (int j = 0; j < kSearchBlock; ++j) product += hessian[i * kSearchBlock + j] * dw[j];
    error += dw[i] * product;
  }
  return error;
}

__device__ float search_block(const float* w, float base, const Nvfp4Search& search,
                              const float* hessian) {
  float least = INFINITY;
  float best = base * search.candidates[0];
  for (int64_t i = 0; i < search.count; ++i) {
    const float amax = base * search.candidates[i];
    const float step = static_nvfp4_step(amax, search);
    float dw[kSearchBlock];
#pragma unroll
    for (int c = 0; c < kSearchBlock; ++c) dw[c] = static_nvfp4_error(w[c], step);
    const float error = hessian != nullptr ? quadratic_form(dw, hessian) : sum_of_squares(dw);
    if (error < least) {
      least = error;
      best = amax;
    }
  }
  return best;
}

// One thread searches one block. Neighbouring threads have the same columns of neighbouring rows,
// so that a warp reads one Hessian.
template <typename Element>
__global__ void search_blocks(const typename Element::Storage* w, int64_t rows, int64_t columns,
                              Nvfp4Search search, float* best_amax) {
  for (int64_t t = blockIdx.x * int64_t{kThreads} + threadIdx.x; t < rows * columns;
       t += int64_t{gridDim.x} * kThreads) {
    const int64_t column = t / rows;
    const int64_t block = t % rows * columns + column;
    float values[kSearchBlock];
#pragma unroll
    for (int c = 0; c < kSearchBlock; ++c) values[c] = Element::load(w[block * kSearchBlock + c]);
    const float base = search.block_amax != nullptr ? search.block_amax[block] : search.global_amax;
    const float* const hessian =
        search.hessian != nullptr ? search.hessian + column * kSearchBlock * kSearchBlock : nullptr;
    // NaN has one spelling: processors disagree on what arithmetic makes of it.
    best_amax[block] = F32Element::store(search_block(values, base, search, hessian));
  }
}

}  // namespace

void search_nvfp4_blocks(const Context& context, const MatrixView& w_NK, const Nvfp4Search& search,
                         float* best_amax) {
  if (w_NK.count() == 0) return;
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const int64_t columns = w_NK.cols / kSearchBlock;
    search_blocks<Element><<<blocks_for(w_NK.rows * columns), kThreads, 0, stream_of(context)>>>(
        static_cast<const typename Element::Storage*>(w_NK.data), w_NK.rows, columns, search,
        best_amax);
  });
  check_cuda(cudaGetLastError(), "search_nvfp4_blocks");
}

}  // namespace halftone::cuda
