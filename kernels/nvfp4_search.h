#pragma once
#include "kernels/context.h"
namespace halftone {
void search_nvfp4_blocks(const Context&, const MatrixView& w_NK, const float* block_amax,
                         float global_amax, float m, const float* candidates, int64_t count,
                         bool relative_to_global, const float* hessian_B1616, float* best_amax);
}
