#include "kernels/fp8.h"

#include <cmath>

#include "kernels/dispatch.h"
#include "kernels/fp8_cpu.h"
#include "kernels/fp8_cuda.h"
#include "kernels/fp8_elements.h"

namespace halftone {

void quantize_fp8(const Context& context, const MatrixView& w_NK, float scale, Numerics numerics,
                  uint8_t* codes_NK) {
  check_matrix(w_NK);
  check(scale > 0.0f && std::isfinite(scale), "quantize_fp8 needs a positive finite scale");
  float divisor = scale;
  if (numerics == Numerics::kCuda) {
    with_element(w_NK.dtype, [&](auto element) { divisor = round_to<decltype(element)>(scale); });
  }
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::quantize_fp8(context, w_NK, divisor, codes_NK);
      return;
    }
  }
  check_cpu(context);
  cpu::quantize_fp8(context, w_NK, divisor, codes_NK);
}

void dequantize_fp8(const Context& context, const uint8_t* codes_NK, int64_t rows, int64_t cols,
                    float scale, DType dtype, void* w_NK) {
  check_matrix({w_NK, dtype, rows, cols});
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::dequantize_fp8(context, codes_NK, rows * cols, scale, dtype, w_NK);
      return;
    }
  }
  check_cpu(context);
  cpu::dequantize_fp8(context, codes_NK, rows * cols, scale, dtype, w_NK);
}

void fake_quantize_fp8(const Context& context, const MatrixView& x_TK, float amax, void* y_TK) {
  check_matrix(x_TK);
  check(amax >= 0.0f && std::isfinite(amax), "fake_quantize_fp8 needs a finite amax");
  const float bound = fp8_bound(amax);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::fake_quantize_fp8(context, x_TK, bound, y_TK);
      return;
    }
  }
  check_cpu(context);
  cpu::fake_quantize_fp8(context, x_TK, bound, y_TK);
}

void quantize_fp8_rows(const Context& context, const MatrixView& w_NK, const float* scale_N,
                       uint8_t* codes_NK) {
  check_matrix(w_NK);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::quantize_fp8_rows(context, w_NK, scale_N, codes_NK);
      return;
    }
  }
  check_cpu(context);
  cpu::quantize_fp8_rows(context, w_NK, scale_N, codes_NK);
}

void dequantize_fp8_rows(const Context& context, const uint8_t* codes_NK, int64_t rows,
                         int64_t cols, const float* scale_N, DType dtype, void* w_NK) {
  check_matrix({w_NK, dtype, rows, cols});
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::dequantize_fp8_rows(context, codes_NK, rows, cols, scale_N, dtype, w_NK);
      return;
    }
  }
  check_cpu(context);
  cpu::dequantize_fp8_rows(context, codes_NK, rows, cols, scale_N, dtype, w_NK);
}

void quantize_fp8_tiles(const Context& context, const MatrixView& w_NK, int64_t tile,
                        const float* scale, uint8_t* codes_NK) {
  check_matrix(w_NK);
  check(tile > 0, "quantize_fp8_tiles needs a tile of at least one");
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::quantize_fp8_tiles(context, w_NK, tile, scale, codes_NK);
      return;
    }
  }
  check_cpu(context);
  cpu::quantize_fp8_tiles(context, w_NK, tile, scale, codes_NK);
}

void dequantize_fp8_tiles(const Context& context, const uint8_t* codes_NK, int64_t rows,
                          int64_t cols, int64_t tile, const float* scale, DType dtype, void* w_NK) {
  check_matrix({w_NK, dtype, rows, cols});
  check(tile > 0, "dequantize_fp8_tiles needs a tile of at least one");
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::dequantize_fp8_tiles(context, codes_NK, rows, cols, tile, scale, dtype, w_NK);
      return;
    }
  }
  check_cpu(context);
  cpu::dequantize_fp8_tiles(context, codes_NK, rows, cols, tile, scale, dtype, w_NK);
}

void fake_quantize_fp8_tokens(const Context& context, const MatrixView& x_TK, void* y_TK) {
  check_matrix(x_TK);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::fake_quantize_fp8_tokens(context, x_TK, y_TK);
      return;
    }
  }
  check_cpu(context);
  cpu::fake_quantize_fp8_tokens(context, x_TK, y_TK);
}

}  // namespace halftone
