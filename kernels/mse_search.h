#pragma once

#include "kernels/context.h"

namespace halftone {

// For every `block` neighbours of a row (the last ones may be fewer; block = cols: whole rows) the
// amax among fp32(amax_NB * multipliers[i]), i < count, whose fake quantization to `bits` (8 or 4)
// has the smallest sum of (x - xq)^2, the first i on ties (calibration.md, 5.1). x, xq and the
// square are fp32, the sum is fp64 in the elements' order; a sum that is NaN counts as infinite.
// amax_NB and best_amax_NB are [rows, ceil(cols / block)], multipliers [count >= 1]; all F32 on the
// context's device.
void search_int_amax(const Context& context, const MatrixView& w_NK, int bits, int64_t block,
                     const float* amax_NB, const float* multipliers, int64_t count,
                     float* best_amax_NB);

}  // namespace halftone
