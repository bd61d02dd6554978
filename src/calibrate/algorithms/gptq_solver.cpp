#include "calibrate/algorithms/gptq_solver.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>

namespace halftone {
namespace {

constexpr int kDampingSteps = 5;

// Columns without weights or inputs carry no error; the upper Cholesky factor of H^-1, or nothing
// when the damped H is not positive definite.
std::optional<at::Tensor> inverse_factor(const at::Tensor& hessian, double damping) {
  at::Tensor h = hessian.clone();
  h.diagonal().add_(damping * hessian.diagonal().mean().item<double>());
  const auto [lower, bad] = at::linalg_cholesky_ex(h);
  if (bad.item<int>() != 0) return std::nullopt;
  const at::Tensor inverse = at::cholesky_inverse(lower);
  const auto [factor, worse] = at::linalg_cholesky_ex(inverse, /*upper=*/true);
  if (worse.item<int>() != 0 || !at::isfinite(factor).all().item<bool>()) return std::nullopt;
  return factor;
}

// Rows and columns of H that belong to dead columns of W are cleared.
at::Tensor without_dead_columns(const at::Tensor& w, const at::Tensor& hessian) {
  const at::Tensor dead = at::logical_or((w == 0).all(0), hessian.diagonal() == 0);
  at::Tensor h = at::where(at::logical_or(dead.unsqueeze(0), dead.unsqueeze(1)),
                           at::zeros_like(hessian), hessian);
  h.diagonal().add_(dead.to(at::kFloat));
  return h;
}

double quadratic(const at::Tensor& w, const at::Tensor& hessian) {
  return (at::mm(w, hessian) * w).mean(at::kDouble).item<double>();
}

// `order`: the column of W that stands at each place.
at::Tensor run_columns(at::Tensor w, const at::Tensor& factor, const GptqGrid& grid,
                       const at::Tensor& order, int64_t block) {
  const int64_t columns = w.size(1);
  const at::Tensor block_of = order.floor_divide(grid.block);
  const at::Tensor steps = grid.step_NB.index_select(1, block_of);  // [out, in]
  at::Tensor result = at::empty_like(w);
  for (int64_t begin = 0; begin < columns; begin += block) {
    const int64_t end = std::min(begin + block, columns);
    at::Tensor part = w.slice(1, begin, end).clone();
    at::Tensor errors = at::empty_like(part);
    for (int64_t c = begin; c < end; ++c) {
      const at::Tensor column = part.select(1, c - begin);
      const at::Tensor rounded = on_grid(grid, column, steps.select(1, c));
      result.select(1, c).copy_(rounded);
      const at::Tensor error = (column - rounded) / factor[c][c];
      errors.select(1, c - begin).copy_(error);
      part.slice(1, c - begin).sub_(error.unsqueeze(1) * factor[c].slice(0, c, end).unsqueeze(0));
    }
    if (end < columns) {
      w.slice(1, end).sub_(at::mm(errors, factor.slice(0, begin, end).slice(1, end)));
    }
  }
  return result;
}

}  // namespace

at::Tensor on_grid(const GptqGrid& grid, const at::Tensor& w_N, const at::Tensor& step_N) {
  const at::Tensor x = at::where(step_N > 0, w_N / step_N, at::zeros_like(w_N));
  if (grid.kind == GptqGrid::Kind::kInt8) return x.round().clamp(-128, 127) * step_N;
  if (grid.kind == GptqGrid::Kind::kInt4) return x.round().clamp(-8, 7) * step_N;
  // E2M1: the sum of the steps that |x| has passed (calibration.md, 3.3).
  const at::Tensor a = x.abs();
  const auto passed = [&](const at::Tensor& condition) { return condition.to(at::kFloat); };
  const at::Tensor magnitude =
      0.5 * (passed(a > 0.25) + passed(a >= 0.75) + passed(a > 1.25) + passed(a >= 1.75)) +
      passed(a > 2.5) + passed(a >= 3.5) + 2.0 * passed(a > 5.0);
  return magnitude * x.sign() * step_N;
}

GptqResult solve_gptq(const at::Tensor& w_NK, const at::Tensor& hessian_KK, const GptqGrid& grid,
                      const GptqOptions& options) {
  const at::Tensor w = w_NK.to(at::kFloat);
  const at::Tensor clean = without_dead_columns(w, hessian_KK);
  const at::Tensor order =
      options.activation_order
          ? clean.diagonal().argsort(/*stable=*/true, /*dim=*/0, /*descending=*/true)
          : at::arange(w.size(1), clean.options().dtype(at::kLong));
  const at::Tensor h = clean.index_select(0, order).index_select(1, order);
  GptqResult result;
  std::optional<at::Tensor> factor;
  result.damping = options.damping;
  for (int step = 0; step < kDampingSteps && !factor; ++step) {
    if (step > 0) result.damping *= 10.0;
    factor = inverse_factor(h, result.damping);
  }
  // Without errors to make good every column is rounded to nearest.
  if (!factor) {
    result.damping = -1.0;
    factor = at::eye(w.size(1), w.options());
  }
  const at::Tensor solved =
      run_columns(w.index_select(1, order).contiguous(), *factor, grid, order, options.block);
  result.w_NK = at::empty_like(w);
  result.w_NK.index_copy_(1, order, solved);
  result.relative_error =
      quadratic(result.w_NK - w, hessian_KK) / (quadratic(w, hessian_KK) + 1e-6);
  return result;
}

}  // namespace halftone
