#pragma once

#include <ATen/core/Tensor.h>

namespace halftone {

// The values that quantized weights may take: a code times the step of its block.
struct GptqGrid {
  enum class Kind : uint8_t { kInt8, kInt4, kE2M1 };
  Kind kind = Kind::kInt4;
  int64_t block = 0;   // columns that share a step
  at::Tensor step_NB;  // F32 [out, blocks]
};

// The nearest values of the grid for one column w_N under the steps step_N, ties to even codes.
at::Tensor on_grid(const GptqGrid& grid, const at::Tensor& w_N, const at::Tensor& step_N);

struct GptqOptions {
  double damping = 0.01;          // share of the mean diagonal that is added to it
  int64_t block = 128;            // columns whose errors are made good together
  bool activation_order = false;  // columns of large second moments first
};

struct GptqResult {
  at::Tensor w_NK;              // on the grid, F32
  double relative_error = 0.0;  // tr(dW H dW^T) / tr(W H W^T)
  double damping = 0.0;         // that worked; negative: none did, and w is rounded to nearest
};

// w_NK [out, in] of any floating type, hessian_KK F32 [in, in] (symmetric, not changed). Damping
// rises tenfold until the Cholesky factorization succeeds.
GptqResult solve_gptq(const at::Tensor& w_NK, const at::Tensor& hessian_KK, const GptqGrid& grid,
                      const GptqOptions& options);

}  // namespace halftone
