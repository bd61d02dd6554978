#include "kernels/nvfp4.h"

#include <cmath>

#include "kernels/dispatch.h"
#include "kernels/nvfp4_cpu.h"
#include "kernels/nvfp4_cuda.h"
#include "kernels/scale.h"

namespace halftone {
namespace {

void check_blocks(int64_t cols, int block, float scale_2) {
  check(block == 16 || block == 32, "NVFP4 has blocks of 16 or 32");
  check(cols % block == 0, "NVFP4 needs whole blocks in every row");
  check(scale_2 > 0.0f && std::isfinite(scale_2), "NVFP4 needs a positive finite second scale");
}

}  // namespace

void quantize_nvfp4(const Context& context, const MatrixView& w_NK, int block, float scale_2,
                    uint8_t* packed, uint8_t* block_scales) {
  check_matrix(w_NK);
  check_blocks(w_NK.cols, block, scale_2);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::quantize_nvfp4(context, w_NK, block, scale_2, packed, block_scales);
      return;
    }
  }
  check_cpu(context);
  cpu::quantize_nvfp4(context, w_NK, block, scale_2, packed, block_scales);
}

void dequantize_nvfp4(const Context& context, const uint8_t* packed, const uint8_t* block_scales,
                      int64_t rows, int64_t cols, int block, float scale_2, DType dtype,
                      void* w_NK) {
  check_matrix({w_NK, dtype, rows, cols});
  check_blocks(cols, block, scale_2);
  const int64_t count = rows * cols;
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::dequantize_nvfp4(context, packed, block_scales, count, block, scale_2, dtype, w_NK);
      return;
    }
  }
  check_cpu(context);
  cpu::dequantize_nvfp4(context, packed, block_scales, count, block, scale_2, dtype, w_NK);
}

void fake_quantize_nvfp4(const Context& context, const MatrixView& x_TK, float amax, void* y_TK) {
  check_matrix(x_TK);
  check(amax >= 0.0f && std::isfinite(amax), "fake_quantize_nvfp4 needs a finite amax");
  const float quotient = amax / kMaxNvfp4;
  const float g = quotient <= 0.0f ? 1e-12f : quotient;
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::fake_quantize_nvfp4(context, x_TK, g, y_TK);
      return;
    }
  }
  check_cpu(context);
  cpu::fake_quantize_nvfp4(context, x_TK, g, y_TK);
}

}  // namespace halftone
