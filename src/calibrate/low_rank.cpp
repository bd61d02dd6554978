#include "calibrate/low_rank.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "calibrate/broadcast.h"
#include "calibrate/smoothing_plan.h"
#include "dist/partition.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

// Fused groups with branches, and the linears that stand alone.
std::vector<std::vector<size_t>> units_of(const StageRun& run) {
  std::vector<std::vector<size_t>> units;
  for (const std::vector<size_t>& members : quantized_groups(run.stage, run.plan)) {
    if (!members.empty() && run.format(members.front()).low_rank > 0) units.push_back(members);
  }
  for (size_t i = 0; i < run.stage.linears.size(); ++i) {
    if (run.format(i).low_rank > 0 && run.stage.linears[i].fused_group < 0) units.push_back({i});
  }
  return units;
}

}  // namespace

std::pair<at::Tensor, at::Tensor> low_rank_factors(const at::Tensor& v_NK, int64_t rank) {
  const at::Tensor v = v_NK.to(at::kDouble);
  const bool wide = v.size(0) <= v.size(1);
  // Eigenvectors of the smaller Gram matrix are the singular vectors of that side; ascending.
  const auto [values, vectors] = at::linalg_eigh(wide ? at::mm(v, v.t()) : at::mm(v.t(), v));
  const int64_t kept = std::min(rank, values.numel());
  const at::Tensor top = vectors.slice(1, values.numel() - kept).flip(1);
  // b a is the projection of v on them.
  at::Tensor left = wide ? top : at::mm(v, top);
  at::Tensor right = wide ? at::mm(top.t(), v) : top.t();
  const at::Tensor singular = (wide ? right : left).norm(2, wide ? 1 : 0);
  const at::Tensor safe = at::where(singular > 0, singular, at::ones_like(singular));
  if (wide) {
    left = left * singular;
    right = right / safe.unsqueeze(1);
  }
  const at::Tensor largest = left.abs().argmax(0, /*keepdim=*/true);
  const at::Tensor sign = at::where(left.gather(0, largest) < 0, -1.0, 1.0).to(at::kDouble);
  left = left * sign;
  right = right * sign.t();
  if (kept < rank) {
    left = at::constant_pad_nd(left, {0, rank - kept});
    right = at::constant_pad_nd(right, {0, 0, 0, rank - kept});
  }
  return {left.contiguous(), right.contiguous()};
}

void add_low_rank_branches(const StageRun& run, StageSolution& solution) {
  const std::vector<std::vector<size_t>> units = units_of(run);
  std::vector<int64_t> costs;
  for (const std::vector<size_t>& members : units) {
    int64_t rows = 0;
    for (const size_t i : members) rows += run.stage.linears[i].out;
    const int64_t cols = run.stage.linears[members.front()].in;
    costs.push_back(rows * cols * std::min(rows, cols) / 1024 + 1);
  }
  const std::vector<int> rank_of = deal_by_cost(costs, run.ranks.size());
  const at::ScalarType dtype = scalar_type_of(run.model_dtype);
  for (size_t u = 0; u < units.size(); ++u) {
    const std::vector<size_t>& members = units[u];
    const int64_t rank = run.format(members.front()).low_rank;
    int64_t rows = 0;
    for (const size_t i : members) rows += run.stage.linears[i].out;
    const int64_t cols = run.stage.linears[members.front()].in;
    at::Tensor a = at::empty({rank, cols}, dtype);
    at::Tensor b = at::empty({rows, rank}, dtype);
    if (rank_of[u] == run.ranks.rank()) {
      std::vector<at::Tensor> weights;
      for (const size_t i : members) {
        weights.push_back(edited_weight(solution.linears[i], run.weight(i)));
      }
      const auto [left, right] = low_rank_factors(at::cat(weights), rank);
      b.copy_(left);
      a.copy_(right);
    }
    broadcast_tensor(run.ranks, a, rank_of[u]);
    broadcast_tensor(run.ranks, b, rank_of[u]);
    int64_t row = 0;
    for (const size_t i : members) {
      LinearSolution& linear = solution.linears[i];
      const int64_t out = run.stage.linears[i].out;
      linear.low_rank_a_RK = a;
      linear.low_rank_b_NR = b.slice(0, row, row + out).contiguous();
      linear.edits.push_back(
          {WeightEdit::Kind::kSubtractLowRank, linear.low_rank_a_RK, linear.low_rank_b_NR});
      row += out;
    }
  }
}

}  // namespace halftone
