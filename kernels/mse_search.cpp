#include "kernels/mse_search.h"

#include "kernels/dispatch.h"
#include "kernels/mse_search_cpu.h"
#include "kernels/mse_search_cuda.h"

namespace halftone {

void search_int_amax(const Context& context, const MatrixView& w_NK, int bits, int64_t block,
                     const float* amax_NB, const float* multipliers, int64_t count,
                     float* best_amax_NB) {
  check_matrix(w_NK);
  check(bits == 8 || bits == 4, "search_int_amax knows 8 and 4 bits");
  check(block > 0, "search_int_amax needs a block of at least one");
  check(count > 0, "search_int_amax needs a multiplier");
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::search_int_amax(context, w_NK, bits, block, amax_NB, multipliers, count, best_amax_NB);
      return;
    }
  }
  check_cpu(context);
  cpu::search_int_amax(context, w_NK, bits, block, amax_NB, multipliers, count, best_amax_NB);
}

}  // namespace halftone
