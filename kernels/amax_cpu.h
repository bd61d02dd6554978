#pragma once

#include "kernels/amax.h"

namespace halftone::cpu {

Amax amax_of_tensor(const Context& context, const MatrixView& x_NK);
void amax_of_rows(const Context& context, const MatrixView& x_NK, float* amax_N);

}  // namespace halftone::cpu
