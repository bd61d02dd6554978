#pragma once

#include "kernels/context.h"

namespace halftone {

// NVFP4, dynamic kind (formats-and-hf-export.md, 2.9): block scales from the weight itself,
// relative to the second-level scale `scale_2` > 0. cols must be a multiple of `block` (16 or 32).
//   packed [rows, cols/2]: even column in the low nibble
//   block_scales [rows, cols/block]: e4m3 codes, not swizzled
void quantize_nvfp4(const Context& context, const MatrixView& w_NK, int block, float scale_2,
                    uint8_t* packed, uint8_t* block_scales);

// w_NK = T(e2m1(code) * fp32(e4m3(block scale) * scale_2)) for T = dtype.
void dequantize_nvfp4(const Context& context, const uint8_t* packed, const uint8_t* block_scales,
                      int64_t rows, int64_t cols, int block, float scale_2, DType dtype,
                      void* w_NK);

// What an activation becomes with dynamic blocks of 16 under the calibrated per-tensor `amax`,
// rounded to its own type (calibration.md, 3.3). A last block that is not full counts as zero
// padded. In place is allowed.
void fake_quantize_nvfp4(const Context& context, const MatrixView& x_TK, float amax, void* y_TK);

void quantize_nvfp4_with_scales(const Context&, const MatrixView& w_NK, int block,
                                const uint8_t* block_scales, float scale_2, uint8_t* packed);
void static_nvfp4_scales(const Context&, const float* block_amax, int64_t count, float global_amax,
                         float m, Numerics numerics, uint8_t* block_scales);
void fake_quantize_nvfp4_scaled(const Context&, const MatrixView& w_NK, const float* column_scale_K,
                                int block, float amax, void* y_NK);
struct Amax;
Amax amax_of_scaled(const Context&, const MatrixView& w_NK, const float* column_scale_K);
}  // namespace halftone
