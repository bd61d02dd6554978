#pragma once

#include "kernels/context.h"

namespace halftone::cuda {

void search_int_amax(const Context& context, const MatrixView& w_NK, int bits, int64_t block,
                     const float* amax_NB, const float* multipliers, int64_t count,
                     float* best_amax_NB);

}  // namespace halftone::cuda
