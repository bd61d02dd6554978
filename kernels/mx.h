#pragma once

#include "kernels/context.h"

namespace halftone {

// The MX formats (formats-and-hf-export.md, 2.12): blocks of 32 of a row share a power of two,
// 2^(scale - 127), the least that keeps amax / 6 (MXFP4) or amax / 448 (MXFP8), rounded to fp32,
// at or below one. For weights cols must be a multiple of 32.

// packed [rows, cols/2]: e2m1 codes, even column in the low nibble, ties toward zero, and the sign
// bit is "not above zero": zero is 0x8. scales [rows, cols/32]. A block with infinity has scale
// 254; one with NaN has e8m0's NaN, 255.
void quantize_mxfp4(const Context& context, const MatrixView& w_NK, uint8_t* packed,
                    uint8_t* scales);

// w_NK = T(e2m1(code) * 2^(scale - 127)) for T = dtype.
void dequantize_mxfp4(const Context& context, const uint8_t* packed, const uint8_t* scales,
                      int64_t rows, int64_t cols, DType dtype, void* w_NK);

// codes [rows, cols]: e4m3, to nearest even, at most 448, NaN is 0x7f. scales as above.
void quantize_mxfp8(const Context& context, const MatrixView& w_NK, uint8_t* codes,
                    uint8_t* scales);

void dequantize_mxfp8(const Context& context, const uint8_t* codes, const uint8_t* scales,
                      int64_t rows, int64_t cols, DType dtype, void* w_NK);

// What activations become (calibration.md, 3.6): to nearest even with saturation, rounded to their
// own type. A last block that is not full counts as zero padded; in place is allowed. A block whose
// amax is 0, infinite or NaN has the factor 1. NaN stays NaN: e2m1 has none, and NaN in an
// activation is an error to be seen. For amaxes whose r is below 2^-126 the exponent is ceil(log2
// r) as in the packed formats, at least -127.
void fake_quantize_mxfp4(const Context& context, const MatrixView& x_TK, void* y_TK);
void fake_quantize_mxfp8(const Context& context, const MatrixView& x_TK, void* y_TK);

}  // namespace halftone
