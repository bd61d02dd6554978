#include "kernels/nf4.h"

#include "kernels/dispatch.h"
#include "kernels/nf4_cpu.h"
#include "kernels/nf4_cuda.h"

namespace halftone {
namespace {

void check_nf4_block(int64_t block) {
  check(block > 0 && block % 2 == 0, "NF4 needs blocks of whole bytes");
}

}  // namespace

void quantize_nf4(const Context& context, const MatrixView& w, int64_t block, const float* table,
                  float* absmax, uint8_t* packed) {
  check_matrix(w);
  check_nf4_block(block);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::quantize_nf4(context, w, block, table, absmax, packed);
      return;
    }
  }
  check_cpu(context);
  cpu::quantize_nf4(context, w, block, table, absmax, packed);
}

void quantize_nf4_in_own_type(const Context& context, const MatrixView& w, int64_t block,
                              const float* table, float* absmax, uint8_t* packed) {
  check_matrix(w);
  check_nf4_block(block);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::quantize_nf4_in_own_type(context, w, block, table, absmax, packed);
      return;
    }
  }
  check_cpu(context);
  cpu::quantize_nf4_in_own_type(context, w, block, table, absmax, packed);
}

void dequantize_nf4(const Context& context, const uint8_t* packed, const float* absmax,
                    int64_t block, const float* table, int64_t count, DType dtype, void* w) {
  check_matrix({w, dtype, 1, count});
  check_nf4_block(block);
  if constexpr (kHasCuda) {
    if (context.device == Device::kCuda) {
      cuda::dequantize_nf4(context, packed, absmax, block, table, count, dtype, w);
      return;
    }
  }
  check_cpu(context);
  cpu::dequantize_nf4(context, packed, absmax, block, table, count, dtype, w);
}

}  // namespace halftone
