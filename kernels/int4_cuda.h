#pragma once

#include "kernels/context.h"

namespace halftone::cuda {

void quantize_int4(const Context& context, const MatrixView& w_NK, int64_t block,
                   const float* scale_NB, uint8_t* packed);
void dequantize_int4(const Context& context, const uint8_t* packed, int64_t rows, int64_t cols,
                     int64_t block, const float* scale_NB, DType dtype, void* w_NK);
void fake_quantize_int4(const Context& context, const MatrixView& w_NK, const float* column_scale_K,
                        int64_t block, const float* amax_NB, float ratio, void* y_NK);

}  // namespace halftone::cuda
