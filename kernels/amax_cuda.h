#pragma once

#include "kernels/context.h"

namespace halftone::cuda {

// `value` and `finite` instead of an Amax: this header is for .cu files too.
void amax_of_tensor(const Context& context, const MatrixView& x_NK, float* value, bool* finite);
void amax_of_scaled(const Context& context, const MatrixView& w_NK, const float* column_scale_K,
                    float* value, bool* finite);
void amax_of_rows(const Context& context, const MatrixView& x_NK, float* amax_N);

}  // namespace halftone::cuda
