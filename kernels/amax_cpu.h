#pragma once

#include "kernels/amax.h"

namespace halftone::cpu {

Amax amax_of_tensor(const Context& context, const MatrixView& x_NK);
Amax amax_of_scaled(const Context& context, const MatrixView& w_NK, const float* column_scale_K);
void amax_of_rows(const Context& context, const MatrixView& x_NK, float* amax_N);

}  // namespace halftone::cpu
