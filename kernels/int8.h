#pragma once

#include "kernels/context.h"

namespace halftone {

// codes_NK[r,c] = clamp(rint(fp32(w) / scale_N[r]), -128, 127) (formats-and-hf-export.md, 2.6).
void quantize_int8_rows(const Context& context, const MatrixView& w_NK, const float* scale_N,
                        int8_t* codes_NK);

// w_NK = T(fp32(code) * scale_N[r]) for T = dtype.
void dequantize_int8_rows(const Context& context, const int8_t* codes_NK, int64_t rows,
                          int64_t cols, const float* scale_N, DType dtype, void* w_NK);

}  // namespace halftone
