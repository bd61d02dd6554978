#pragma once

#include "kernels/context.h"

namespace halftone {

// codes_NK[r,c] = e4m3(T(fp32(w) / scale)), the intermediate rounding to w's own type T included
// (formats-and-hf-export.md, 2.3); with Numerics::kCuda the scale is rounded to T first.
void quantize_fp8(const Context& context, const MatrixView& w_NK, float scale, Numerics numerics,
                  uint8_t* codes_NK);

// w_NK = T(fp32(code) * scale) for T = dtype.
void dequantize_fp8(const Context& context, const uint8_t* codes_NK, int64_t rows, int64_t cols,
                    float scale, DType dtype, void* w_NK);

// What an activation becomes when it is quantized per tensor with `amax` and read back, rounded to
// its own type (calibration.md, 3.1): saturating, amax <= 2^-24 counts as 1. In place is allowed.
void fake_quantize_fp8(const Context& context, const MatrixView& x_TK, float amax, void* y_TK);

// codes_NK[r,c] = e4m3(fp32(w) / scale_N[r]), rounded once (formats-and-hf-export.md, 2.4).
// scale_N [rows] is F32 on the context's device.
void quantize_fp8_rows(const Context& context, const MatrixView& w_NK, const float* scale_N,
                       uint8_t* codes_NK);

// w_NK = T(fp32(code) * scale_N[r]) for T = dtype.
void dequantize_fp8_rows(const Context& context, const uint8_t* codes_NK, int64_t rows,
                         int64_t cols, const float* scale_N, DType dtype, void* w_NK);

// codes_NK[r,c] = e4m3(fp32(w) / scale[r / tile, c / tile]), rounded once
// (formats-and-hf-export.md, 2.5). scale [ceil(rows / tile), ceil(cols / tile)] is F32 on the
// context's device.
void quantize_fp8_tiles(const Context& context, const MatrixView& w_NK, int64_t tile,
                        const float* scale, uint8_t* codes_NK);

// w_NK = T(fp32(code) * scale[r / tile, c / tile]) for T = dtype.
void dequantize_fp8_tiles(const Context& context, const uint8_t* codes_NK, int64_t rows,
                          int64_t cols, int64_t tile, const float* scale, DType dtype, void* w_NK);

// fake_quantize_fp8 with every row's own amax (calibration.md, 3.1, per token). NaN or infinity in
// a row makes all of it NaN, as it does in the reference. In place is allowed.
void fake_quantize_fp8_tokens(const Context& context, const MatrixView& x_TK, void* y_TK);

}  // namespace halftone
