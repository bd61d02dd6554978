#pragma once

#include "kernels/context.h"

namespace halftone {
void quantize_nf4(const Context&, const MatrixView& w, int64_t block, const float* table, float* absmax, uint8_t* packed);
void dequantize_nf4(const Context&, const uint8_t* packed, const float* absmax, int64_t block, const float* table, int64_t count, DType, void* w);
}  // namespace halftone
