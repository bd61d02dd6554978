#pragma once

#include "kernels/context.h"

namespace halftone {

// packed[i,c] = q[2i,c] & 15 | (q[2i+1,c] & 15) << 4 with q = clamp(rint(fp32(w) / scale), -8, 7)
// (formats-and-hf-export.md, 2.7): two neighbouring rows share a byte, packed is [rows / 2, cols].
// scale_NB [rows, cols / block] is F32 on the context's device. rows is even and cols a whole
// number of blocks. NaN gives 0.
void quantize_int4(const Context& context, const MatrixView& w_NK, int64_t block,
                   const float* scale_NB, uint8_t* packed);

// w_NK = T(fp32(q) * scale_NB) for T = dtype; shapes as above.
void dequantize_int4(const Context& context, const uint8_t* packed, int64_t rows, int64_t cols,
                     int64_t block, const float* scale_NB, DType dtype, void* w_NK);

// One step of a search: u = T(fp32(w) * column_scale_K[c]) (null: u = w), and y_NK = T(q / scale)
// with q = clamp(rint(fp32(u) * scale), -8, 7) and scale = 7 / a for every `block` neighbours of a
// row, the last ones may be fewer (calibration.md, 3.2, 5.6, 5.7). a = fp32(amax_NB * ratio), where
// amax_NB [rows, ceil(cols / block)] null is the block's largest |u|: there NaN or infinity makes
// the whole block NaN, as it does in the reference. a <= 2^-24 gives zeros. In place is allowed.
void fake_quantize_int4(const Context& context, const MatrixView& w_NK, const float* column_scale_K,
                        int64_t block, const float* amax_NB, float ratio, void* y_NK);

}  // namespace halftone
