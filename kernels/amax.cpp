#include "kernels/amax.h"

#include "kernels/amax_cpu.h"
#include "kernels/amax_cuda.h"
#include "kernels/dispatch.h"

namespace halftone {

Amax amax_of_tensor(const Context& context, const MatrixView& x_NK) {
  check_matrix(x_NK);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      Amax amax;
      cuda::amax_of_tensor(context, x_NK, &amax.value, &amax.finite);
      return amax;
    }
  }
  check_cpu(context);
  return cpu::amax_of_tensor(context, x_NK);
}

Amax amax_of_scaled(const Context& context, const MatrixView& w_NK, const float* column_scale_K) {
  if (column_scale_K == nullptr) return amax_of_tensor(context, w_NK);
  check_matrix(w_NK);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      Amax amax;
      cuda::amax_of_scaled(context, w_NK, column_scale_K, &amax.value, &amax.finite);
      return amax;
    }
  }
  check_cpu(context);
  return cpu::amax_of_scaled(context, w_NK, column_scale_K);
}

void amax_of_rows(const Context& context, const MatrixView& x_NK, float* amax_N) {
  check_matrix(x_NK);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::amax_of_rows(context, x_NK, amax_N);
      return;
    }
  }
  check_cpu(context);
  cpu::amax_of_rows(context, x_NK, amax_N);
}

void amax_of_blocks(const Context& context, const MatrixView& w_NK, int64_t block, float* amax_NB) {
  check_matrix(w_NK);
  check(block > 0, "amax_of_blocks needs a block of at least one");
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::amax_of_blocks(context, w_NK, block, amax_NB);
      return;
    }
  }
  check_cpu(context);
  cpu::amax_of_blocks(context, w_NK, block, amax_NB);
}

void amax_of_tiles(const Context& context, const MatrixView& w_NK, int64_t tile, float* amax) {
  check_matrix(w_NK);
  check(tile > 0, "amax_of_tiles needs a tile of at least one");
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::amax_of_tiles(context, w_NK, tile, amax);
      return;
    }
  }
  check_cpu(context);
  cpu::amax_of_tiles(context, w_NK, tile, amax);
}

void amax_of_columns(const Context& context, const MatrixView& x_TK, float* amax_K) {
  check_matrix(x_TK);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::amax_of_columns(context, x_TK, amax_K);
      return;
    }
  }
  check_cpu(context);
  cpu::amax_of_columns(context, x_TK, amax_K);
}

}  // namespace halftone
