#include "kernels/nvfp4_search.h"

#include <cmath>

#include "kernels/dispatch.h"
#include "kernels/nvfp4_search_cpu.h"
#include "kernels/nvfp4_search_cuda.h"
#include "kernels/scale.h"

namespace halftone {

void search_nvfp4_blocks(const Context& context, const MatrixView& w_NK, const float* block_amax,
                         float global_amax, float m, const float* candidates, int64_t count,
                         bool relative_to_global, const float* hessian_B1616, float* best_amax) {
  check_matrix(w_NK);
  check(w_NK.cols % kSearchBlock == 0, "NVFP4 needs whole blocks in every row");
  check(global_amax > 0.0f && std::isfinite(global_amax),
        "static NVFP4 needs a positive finite global amax");
  check(m == 448.0f || m == 256.0f, "static NVFP4 has m = 448 or 256");
  check(count > 0, "a search needs candidates");
  check(relative_to_global || block_amax != nullptr || w_NK.count() == 0, "no block amaxes");
  const float largest_scale = global_amax * (kMaxE4M3 / m) / kMaxE2M1;
  const float to_e4m3 = kMaxE4M3 / largest_scale;
  const Nvfp4Search search{
      to_e4m3,     1.0f / to_e4m3, candidates, count, relative_to_global ? nullptr : block_amax,
      global_amax, hessian_B1616};
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::search_nvfp4_blocks(context, w_NK, search, best_amax);
      return;
    }
  }
  check_cpu(context);
  cpu::search_nvfp4_blocks(context, w_NK, search, best_amax);
}

}  // namespace halftone
