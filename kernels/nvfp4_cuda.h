#pragma once

#include "kernels/context.h"

namespace halftone::cuda {

// Rows are whole blocks, so a matrix is one run of `count` elements.
void quantize_nvfp4(const Context& context, const MatrixView& w_NK, int block, float scale_2,
                    uint8_t* packed, uint8_t* block_scales);
void dequantize_nvfp4(const Context& context, const uint8_t* packed, const uint8_t* block_scales,
                      int64_t count, int block, float scale_2, DType dtype, void* w_NK);
// `g` is the second-level scale of the activation (calibration.md, 3.3).
void fake_quantize_nvfp4(const Context& context, const MatrixView& x_TK, float g, void* y_TK);

}  // namespace halftone::cuda
