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

}  // namespace halftone
