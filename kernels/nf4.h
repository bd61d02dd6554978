#pragma once

#include "kernels/context.h"

namespace halftone {

// Four bits that choose from a table (QLoRA's NF4). w is taken flat, in blocks of `block` elements
// (even, > 0; the last may be shorter). table: F32 [16], ascending, on the context's device.
//   absmax [ceil(count/block)], F32
//   packed [ceil(count/2)]: even element in the high nibble; an odd count ends with the code of 0
// Two ways of choosing, which differ where rounding does:
//
// quantize_nf4 is bitsandbytes' on the CPU, byte for byte with its table: scaled = fp32(w) * (1 /
// absmax) in whole blocks and fp32(w) / absmax in a shorter last one, in both with at least 1e-38
// for absmax; the code is the number of midpoints of neighbouring entries below `scaled`, so that
// the lower code wins a tie. As there, the stored absmax of a shorter last block is at least 1e-38.
void quantize_nf4(const Context& context, const MatrixView& w, int64_t block, const float* table,
                  float* absmax, uint8_t* packed);

// Model Optimizer's (formats-and-hf-export.md, 2.14), in w's type T: scaled = T(w / absmax), and
// the code is the first of the entries with the least |T(scaled - T(table[i]))|. A block of zeros
// has the code of 0 (Model Optimizer divides by zero there).
void quantize_nf4_in_own_type(const Context& context, const MatrixView& w, int64_t block,
                              const float* table, float* absmax, uint8_t* packed);

// w[i] = T(table[code] * absmax[i / block]) for T = dtype and i < count.
void dequantize_nf4(const Context& context, const uint8_t* packed, const float* absmax,
                    int64_t block, const float* table, int64_t count, DType dtype, void* w);

}  // namespace halftone
