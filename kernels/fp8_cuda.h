#pragma once

#include "kernels/context.h"

namespace halftone::cuda {

// `scale` is already the one to divide by (Numerics decides in fp8.cpp).
void quantize_fp8(const Context& context, const MatrixView& w_NK, float scale, uint8_t* codes_NK);
void dequantize_fp8(const Context& context, const uint8_t* codes_NK, int64_t count, float scale,
                    DType dtype, void* w_NK);
void fake_quantize_fp8(const Context& context, const MatrixView& x_TK, float amax, void* y_TK);
void quantize_fp8_rows(const Context& context, const MatrixView& w_NK, const float* scale_N,
                       uint8_t* codes_NK);
void dequantize_fp8_rows(const Context& context, const uint8_t* codes_NK, int64_t rows,
                         int64_t cols, const float* scale_N, DType dtype, void* w_NK);
void quantize_fp8_tiles(const Context& context, const MatrixView& w_NK, int64_t tile,
                        const float* scale, uint8_t* codes_NK);
void dequantize_fp8_tiles(const Context& context, const uint8_t* codes_NK, int64_t rows,
                          int64_t cols, int64_t tile, const float* scale, DType dtype, void* w_NK);
void fake_quantize_fp8_tokens(const Context& context, const MatrixView& x_TK, void* y_TK);

}  // namespace halftone::cuda
