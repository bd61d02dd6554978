#pragma once

#include "kernels/context.h"
#include "kernels/nvfp4_search_elements.h"

namespace halftone::cpu {

void search_nvfp4_blocks(const Context& context, const MatrixView& w_NK, const Nvfp4Search& search,
                         float* best_amax);

}  // namespace halftone::cpu
