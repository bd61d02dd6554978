#pragma once

#include "kernels/context.h"

namespace halftone {

// codes_NK[r,c] = clamp(rint(fp32(w) / scale_N[r]), -128, 127) (formats-and-hf-export.md, 2.6).
void quantize_int8_rows(const Context& context, const MatrixView& w_NK, const float* scale_N,
                        int8_t* codes_NK);

// w_NK = T(fp32(code) * scale_N[r]) for T = dtype.
void dequantize_int8_rows(const Context& context, const int8_t* codes_NK, int64_t rows,
                          int64_t cols, const float* scale_N, DType dtype, void* w_NK);

// What x becomes when it is quantized to INT8 per tensor with `amax` (finite, not negative) and
// read back, rounded to its own type (calibration.md, 3.2): saturating at -128 and 127 steps, all
// zeros for amax <= 2^-24, otherwise NaN stays NaN. In place is allowed.
void fake_quantize_int8(const Context& context, const MatrixView& x_TK, float amax, void* y_TK);

}  // namespace halftone
