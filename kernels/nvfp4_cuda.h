#pragma once

#include "kernels/context.h"
#include "kernels/nvfp4_elements.h"

namespace halftone::cuda {

// Rows are whole blocks, so a matrix is one run of `count` elements.
void quantize_nvfp4(const Context& context, const MatrixView& w_NK, int block, float scale_2,
                    uint8_t* packed, uint8_t* block_scales);
void quantize_nvfp4_with_scales(const Context& context, const MatrixView& w_NK, int block,
                                const uint8_t* block_scales, float scale_2, uint8_t* packed);
void static_nvfp4_scales(const Context& context, const float* block_amax, int64_t count,
                         const StaticNvfp4& scale, uint8_t* block_scales);
void dequantize_nvfp4(const Context& context, const uint8_t* packed, const uint8_t* block_scales,
                      int64_t count, int block, float scale_2, DType dtype, void* w_NK);
// `g` is the second-level scale (calibration.md, 3.3); column_scale_K may be null.
void fake_quantize_nvfp4(const Context& context, const MatrixView& x_TK,
                         const float* column_scale_K, int block, float g, void* y_TK);

}  // namespace halftone::cuda
