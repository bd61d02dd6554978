#include "kernels/nvfp4.h"

#include <cmath>

#include "kernels/dispatch.h"
#include "kernels/nvfp4_cpu.h"
#include "kernels/nvfp4_cuda.h"
#include "kernels/scale.h"

namespace halftone {
namespace {

void check_block(int block) {
  check(block == 16 || block == 32, "NVFP4 has blocks of 16 or 32");
}

void check_blocks(int64_t cols, int block, float scale_2) {
  check_block(block);
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

void quantize_nvfp4_with_scales(const Context& context, const MatrixView& w_NK, int block,
                                const uint8_t* block_scales, float scale_2, uint8_t* packed) {
  check_matrix(w_NK);
  check_blocks(w_NK.cols, block, scale_2);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::quantize_nvfp4_with_scales(context, w_NK, block, block_scales, scale_2, packed);
      return;
    }
  }
  check_cpu(context);
  cpu::quantize_nvfp4_with_scales(context, w_NK, block, block_scales, scale_2, packed);
}

void static_nvfp4_scales(const Context& context, const float* block_amax, int64_t count,
                         float global_amax, float m, Numerics numerics, uint8_t* block_scales) {
  check(count >= 0, "a negative number of blocks");
  check(global_amax > 0.0f && std::isfinite(global_amax),
        "static NVFP4 needs a positive finite global amax");
  check(m == 448.0f || m == 256.0f, "static NVFP4 has m = 448 or 256");
  const StaticNvfp4 scale{divide_by_constant(global_amax, kMaxE2M1, numerics), m, 1.0f / kMaxE2M1,
                          numerics};
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::static_nvfp4_scales(context, block_amax, count, scale, block_scales);
      return;
    }
  }
  check_cpu(context);
  cpu::static_nvfp4_scales(context, block_amax, count, scale, block_scales);
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
  fake_quantize_nvfp4_scaled(context, x_TK, nullptr, 16, amax, y_TK);
}

void fake_quantize_nvfp4_scaled(const Context& context, const MatrixView& w_NK,
                                const float* column_scale_K, int block, float amax, void* y_NK) {
  check_matrix(w_NK);
  check_block(block);
  check(amax >= 0.0f && std::isfinite(amax), "fake_quantize_nvfp4 needs a finite amax");
  const float quotient = amax / kMaxNvfp4;
  const float g = quotient <= 0.0f ? 1e-12f : quotient;
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::fake_quantize_nvfp4(context, w_NK, column_scale_K, block, g, y_NK);
      return;
    }
  }
  check_cpu(context);
  cpu::fake_quantize_nvfp4(context, w_NK, column_scale_K, block, g, y_NK);
}

}  // namespace halftone
