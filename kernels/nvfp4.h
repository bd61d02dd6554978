#pragma once

#include "kernels/context.h"

namespace halftone {

// NVFP4, dynamic kind (formats-and-hf-export.md, 2.9): block scales from the weight itself,
// relative to the second-level scale `scale_2` > 0. cols must be a multiple of `block` (16 or 32).
//   packed [rows, cols/2]: even column in the low nibble
//   block_scales [rows, cols/block]: e4m3 codes, not swizzled
void quantize_nvfp4(const Context& context, const MatrixView& w_NK, int block, float scale_2,
                    uint8_t* packed, uint8_t* block_scales);

// The elements of 2.9 under block scales that are given: e4m3 codes [rows, cols/block].
void quantize_nvfp4_with_scales(const Context& context, const MatrixView& w_NK, int block,
                                const uint8_t* block_scales, float scale_2, uint8_t* packed);

// Block scales of the static kind (formats-and-hf-export.md, 2.10) from `count` block amaxes (F32),
// which calibration may have chosen: ps = amax/6, with 1 for 0, and e4m3 of (ps*m)/(global_amax/6)
// between 2^-9 and 448. m is 448, or 256 for four-over-six; `numerics` is how a constant divides.
void static_nvfp4_scales(const Context& context, const float* block_amax, int64_t count,
                         float global_amax, float m, Numerics numerics, uint8_t* block_scales);

// w_NK = T(e2m1(code) * fp32(e4m3(block scale) * scale_2)) for T = dtype.
void dequantize_nvfp4(const Context& context, const uint8_t* packed, const uint8_t* block_scales,
                      int64_t rows, int64_t cols, int block, float scale_2, DType dtype,
                      void* w_NK);

// What an activation becomes with dynamic blocks of 16 under the calibrated per-tensor `amax`,
// rounded to its own type (calibration.md, 3.3). A last block that is not full counts as zero
// padded. In place is allowed.
void fake_quantize_nvfp4(const Context& context, const MatrixView& x_TK, float amax, void* y_TK);

// The same for u = T(fp32(w) * column_scale_K[c]) (null: u = w) in blocks of `block`, 16 or 32.
// column_scale_K is F32 [cols] on the context's device.
void fake_quantize_nvfp4_scaled(const Context& context, const MatrixView& w_NK,
                                const float* column_scale_K, int block, float amax, void* y_NK);

}  // namespace halftone
