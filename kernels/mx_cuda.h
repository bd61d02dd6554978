#pragma once

#include "kernels/context.h"

namespace halftone::cuda {

// Rows are whole blocks, so a matrix is one run of `count` elements.
void quantize_mxfp4(const Context& context, const MatrixView& w_NK, uint8_t* packed,
                    uint8_t* scales);
void dequantize_mxfp4(const Context& context, const uint8_t* packed, const uint8_t* scales,
                      int64_t count, DType dtype, void* w_NK);
void quantize_mxfp8(const Context& context, const MatrixView& w_NK, uint8_t* codes,
                    uint8_t* scales);
void dequantize_mxfp8(const Context& context, const uint8_t* codes, const uint8_t* scales,
                      int64_t count, DType dtype, void* w_NK);
void fake_quantize_mxfp4(const Context& context, const MatrixView& x_TK, void* y_TK);
void fake_quantize_mxfp8(const Context& context, const MatrixView& x_TK, void* y_TK);

}  // namespace halftone::cuda
