#pragma once

#include "kernels/context.h"

namespace halftone::cuda {

// `value` and `finite` instead of an Amax: this header is for .cu files too.
void amax_of_tensor(const Context& context, const MatrixView& x_NK, float* value, bool* finite);
void amax_of_scaled(const Context& context, const MatrixView& w_NK, const float* column_scale_K,
                    float* value, bool* finite);
void amax_of_rows(const Context& context, const MatrixView& x_NK, float* amax_N);
void amax_of_blocks(const Context& context, const MatrixView& w_NK, int64_t block, float* amax_NB);
void amax_of_tiles(const Context& context, const MatrixView& w_NK, int64_t tile, float* amax);
void amax_of_columns(const Context& context, const MatrixView& x_TK, float* amax_K);

}  // namespace halftone::cuda
