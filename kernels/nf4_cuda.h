#pragma once

#include "kernels/context.h"

namespace halftone::cuda {

void quantize_nf4(const Context& context, const MatrixView& w, int64_t block, const float* table,
                  float* absmax, uint8_t* packed);
void quantize_nf4_in_own_type(const Context& context, const MatrixView& w, int64_t block,
                              const float* table, float* absmax, uint8_t* packed);
void dequantize_nf4(const Context& context, const uint8_t* packed, const float* absmax,
                    int64_t block, const float* table, int64_t count, DType dtype, void* w);

}  // namespace halftone::cuda
