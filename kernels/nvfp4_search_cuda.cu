#include <cmath>

#include "kernels/nvfp4_runs.cuh"
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

// static_nvfp4_error() of a whole block. `finite`: so are all its elements.
template <typename Element>
__device__ void errors_of_block(const float* w, bool finite, float step, float* dw) {
  const Division by = division_by<Element>(step, 1.0f);
  if (finite && by.most >= 0) {
#pragma unroll
    for (int c = 0; c < kSearchBlock; ++c) {
      const float magnitude = fabsf(w[c]);
      const float error = magnitude - round_magnitude_to_e2m1(by.of(magnitude)) * step;
      dw[c] = float_of_bits(bits_of(error) ^ (bits_of(w[c]) & 0x80000000u));
    }
  } else {
#pragma unroll
    for (int c = 0; c < kSearchBlock; ++c) dw[c] = static_nvfp4_error(w[c], step);
  }
}

template <typename Element>
__device__ float search_block(const float* w, float base, const Nvfp4Search& search,
                              const float* hessian) {
  bool finite = true;
#pragma unroll
  for (int c = 0; c < kSearchBlock; ++c) finite = finite && fabsf(w[c]) < INFINITY;
  float least = INFINITY;
  float best = base * search.candidates[0];
  for (int64_t i = 0; i < search.count; ++i) {
    const float amax = base * search.candidates[i];
    float dw[kSearchBlock];
    errors_of_block<Element>(w, finite, static_nvfp4_step(amax, search), dw);
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
                              Nvfp4Search search, bool aligned, float* best_amax) {
  using Storage = typename Element::Storage;
  for (int64_t t = blockIdx.x * int64_t{kThreads} + threadIdx.x; t < rows * columns;
       t += int64_t{gridDim.x} * kThreads) {
    const int64_t column = t / rows;
    const int64_t block = t % rows * columns + column;
    float values[kSearchBlock];
#pragma unroll
    for (int c = 0; c < kSearchBlock; c += kRun) {
      floats_of<Element>(load_run<Storage, kRun>(w + block * kSearchBlock + c, aligned),
                         values + c);
    }
    const float base = search.block_amax != nullptr ? search.block_amax[block] : search.global_amax;
    const float* const hessian =
        search.hessian != nullptr ? search.hessian + column * kSearchBlock * kSearchBlock : nullptr;
    // NaN has one spelling: processors disagree on what arithmetic makes of it.
    best_amax[block] = F32Element::store(search_block<Element>(values, base, search, hessian));
  }
}

}  // namespace

void search_nvfp4_blocks(const Context& context, const MatrixView& w_NK, const Nvfp4Search& search,
                         float* best_amax) {
  if (w_NK.count() == 0) return;
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const int64_t columns = w_NK.cols / kSearchBlock;
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    search_blocks<Element><<<blocks_for(w_NK.rows * columns), kThreads, 0, stream_of(context)>>>(
        w, w_NK.rows, columns, search, is_aligned(w, alignof(RunOf<Element>)), best_amax);
  });
  check_cuda(cudaGetLastError(), "search_nvfp4_blocks");
}

}  // namespace halftone::cuda
