#pragma once

#include "kernels/context.h"

namespace halftone {

// Calibration of the static kind of NVFP4 (calibration.md, 5.1 to 5.3): for every block of 16 of w
// the amax, among `count` > 0 candidates, whose static fake quantization (calibration.md, 3.4, with
// m = 448 or 256) has the least error; the first of equals, so the smallest of ascending
// candidates.
//   candidate i: global_amax * candidates[i] if relative_to_global, else block_amax[b] *
//     candidates[i]; block_amax [rows, cols/16] may be null in the first case
//   error of a block: the sum of squares of dw = fp32(w) - fake(w), or dw^T H_b dw if
//     hessian_B1616 [cols/16, 16, 16] is not null; H_b is that of the block's columns in every row
//   best_amax [rows, cols/16]
// All arrays but w are F32 on the context's device. The arithmetic is fp32 in the order of the
// columns. A block whose errors are all NaN or infinite gets the first candidate. Unlike 3.1, a
// tiny global amax is taken as it is.
void search_nvfp4_blocks(const Context& context, const MatrixView& w_NK, const float* block_amax,
                         float global_amax, float m, const float* candidates, int64_t count,
                         bool relative_to_global, const float* hessian_B1616, float* best_amax);

}  // namespace halftone
