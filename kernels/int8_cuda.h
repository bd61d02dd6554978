#pragma once

#include "kernels/context.h"

namespace halftone::cuda {

void quantize_int8_rows(const Context& context, const MatrixView& w_NK, const float* scale_N,
                        int8_t* codes_NK);
void dequantize_int8_rows(const Context& context, const int8_t* codes_NK, int64_t rows,
                          int64_t cols, const float* scale_N, DType dtype, void* w_NK);
void fake_quantize_int8(const Context& context, const MatrixView& x_TK, float amax, void* y_TK);

}  // namespace halftone::cuda
