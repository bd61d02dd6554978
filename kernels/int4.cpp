#include "kernels/int4.h"

#include "kernels/dispatch.h"
#include "kernels/int4_cpu.h"
#include "kernels/int4_cuda.h"

namespace halftone {
namespace {

void check_packing(int64_t rows, int64_t cols, int64_t block) {
  check(block > 0 && cols % block == 0, "INT4 rows are whole blocks");
  check(rows % 2 == 0, "INT4 packs pairs of rows");
}

}  // namespace

void quantize_int4(const Context& context, const MatrixView& w_NK, int64_t block,
                   const float* scale_NB, uint8_t* packed) {
  check_matrix(w_NK);
  check_packing(w_NK.rows, w_NK.cols, block);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::quantize_int4(context, w_NK, block, scale_NB, packed);
      return;
    }
  }
  check_cpu(context);
  cpu::quantize_int4(context, w_NK, block, scale_NB, packed);
}

void dequantize_int4(const Context& context, const uint8_t* packed, int64_t rows, int64_t cols,
                     int64_t block, const float* scale_NB, DType dtype, void* w_NK) {
  check_matrix({w_NK, dtype, rows, cols});
  check_packing(rows, cols, block);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::dequantize_int4(context, packed, rows, cols, block, scale_NB, dtype, w_NK);
      return;
    }
  }
  check_cpu(context);
  cpu::dequantize_int4(context, packed, rows, cols, block, scale_NB, dtype, w_NK);
}

void fake_quantize_int4(const Context& context, const MatrixView& w_NK, const float* column_scale_K,
                        int64_t block, const float* amax_NB, float ratio, void* y_NK) {
  check_matrix(w_NK);
  check(block > 0, "fake_quantize_int4 needs a block of at least one");
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::fake_quantize_int4(context, w_NK, column_scale_K, block, amax_NB, ratio, y_NK);
      return;
    }
  }
  check_cpu(context);
  cpu::fake_quantize_int4(context, w_NK, column_scale_K, block, amax_NB, ratio, y_NK);
}

}  // namespace halftone
