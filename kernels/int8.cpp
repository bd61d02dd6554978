#include "kernels/int8.h"

#include <cmath>

#include "kernels/dispatch.h"
#include "kernels/int8_cpu.h"
#include "kernels/int8_cuda.h"

namespace halftone {

void quantize_int8_rows(const Context& context, const MatrixView& w_NK, const float* scale_N,
                        int8_t* codes_NK) {
  check_matrix(w_NK);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::quantize_int8_rows(context, w_NK, scale_N, codes_NK);
      return;
    }
  }
  check_cpu(context);
  cpu::quantize_int8_rows(context, w_NK, scale_N, codes_NK);
}

void dequantize_int8_rows(const Context& context, const int8_t* codes_NK, int64_t rows,
                          int64_t cols, const float* scale_N, DType dtype, void* w_NK) {
  check_matrix({w_NK, dtype, rows, cols});
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::dequantize_int8_rows(context, codes_NK, rows, cols, scale_N, dtype, w_NK);
      return;
    }
  }
  check_cpu(context);
  cpu::dequantize_int8_rows(context, codes_NK, rows, cols, scale_N, dtype, w_NK);
}

void fake_quantize_int8(const Context& context, const MatrixView& x_TK, float amax, void* y_TK) {
  check_matrix(x_TK);
  check(amax >= 0.0f && std::isfinite(amax), "fake_quantize_int8 needs a finite amax");
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::fake_quantize_int8(context, x_TK, amax, y_TK);
      return;
    }
  }
  check_cpu(context);
  cpu::fake_quantize_int8(context, x_TK, amax, y_TK);
}

}  // namespace halftone
