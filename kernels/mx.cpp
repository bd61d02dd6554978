#include "kernels/mx.h"

#include "kernels/dispatch.h"
#include "kernels/mx_cpu.h"
#include "kernels/mx_cuda.h"
#include "kernels/mx_elements.h"

namespace halftone {
namespace {

void check_weight(const MatrixView& w_NK) {
  check_matrix(w_NK);
  check(w_NK.cols % kMxBlock == 0, "an MX weight needs whole blocks of 32 in every row");
}

}  // namespace

void quantize_mxfp4(const Context& context, const MatrixView& w_NK, uint8_t* packed,
                    uint8_t* scales) {
  check_weight(w_NK);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::quantize_mxfp4(context, w_NK, packed, scales);
      return;
    }
  }
  check_cpu(context);
  cpu::quantize_mxfp4(context, w_NK, packed, scales);
}

void dequantize_mxfp4(const Context& context, const uint8_t* packed, const uint8_t* scales,
                      int64_t rows, int64_t cols, DType dtype, void* w_NK) {
  check_weight({w_NK, dtype, rows, cols});
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::dequantize_mxfp4(context, packed, scales, rows * cols, dtype, w_NK);
      return;
    }
  }
  check_cpu(context);
  cpu::dequantize_mxfp4(context, packed, scales, rows * cols, dtype, w_NK);
}

void quantize_mxfp8(const Context& context, const MatrixView& w_NK, uint8_t* codes,
                    uint8_t* scales) {
  check_weight(w_NK);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::quantize_mxfp8(context, w_NK, codes, scales);
      return;
    }
  }
  check_cpu(context);
  cpu::quantize_mxfp8(context, w_NK, codes, scales);
}

void dequantize_mxfp8(const Context& context, const uint8_t* codes, const uint8_t* scales,
                      int64_t rows, int64_t cols, DType dtype, void* w_NK) {
  check_weight({w_NK, dtype, rows, cols});
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::dequantize_mxfp8(context, codes, scales, rows * cols, dtype, w_NK);
      return;
    }
  }
  check_cpu(context);
  cpu::dequantize_mxfp8(context, codes, scales, rows * cols, dtype, w_NK);
}

void fake_quantize_mxfp4(const Context& context, const MatrixView& x_TK, void* y_TK) {
  check_matrix(x_TK);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::fake_quantize_mxfp4(context, x_TK, y_TK);
      return;
    }
  }
  check_cpu(context);
  cpu::fake_quantize_mxfp4(context, x_TK, y_TK);
}

void fake_quantize_mxfp8(const Context& context, const MatrixView& x_TK, void* y_TK) {
  check_matrix(x_TK);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::fake_quantize_mxfp8(context, x_TK, y_TK);
      return;
    }
  }
  check_cpu(context);
  cpu::fake_quantize_mxfp8(context, x_TK, y_TK);
}

}  // namespace halftone
