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

}  // namespace halftone
