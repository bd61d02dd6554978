#pragma once

#include "kernels/context.h"

namespace halftone {

// The largest magnitude and whether every element is finite. NaN and infinity do not enter amax.
struct Amax {
  float value = 0.0f;
  bool finite = true;
};

// Exact for F32, F16 and BF16 (formats-and-hf-export.md, 2.2). On CUDA this waits for the result.
Amax amax_of_tensor(const Context& context, const MatrixView& x_NK);

// The same over u = T(fp32(w) * column_scale_K[c]), T = w's type (null: u = w). column_scale_K is
// F32 [cols] on the context's device.
Amax amax_of_scaled(const Context& context, const MatrixView& w_NK, const float* column_scale_K);

// amax of every row into amax_N[rows] (F32, on the context's device); non-finite elements are
// skipped.
void amax_of_rows(const Context& context, const MatrixView& x_NK, float* amax_N);

// amax of every run of `block` consecutive elements of a row, the last of a row may be shorter:
// amax_NB [rows, ceil(cols / block)] (F32, on the context's device). As amax_of_rows.
void amax_of_blocks(const Context& context, const MatrixView& w_NK, int64_t block, float* amax_NB);

// amax of every tile x tile, those at the edges may be smaller: amax [ceil(rows / tile),
// ceil(cols / tile)]. As amax_of_rows.
void amax_of_tiles(const Context& context, const MatrixView& w_NK, int64_t tile, float* amax);

// amax of every column: amax_K [cols], 0 where there are no rows. As amax_of_rows.
void amax_of_columns(const Context& context, const MatrixView& x_TK, float* amax_K);

}  // namespace halftone
