#include "engine/batch_rows.h"

#include <ATen/ATen.h>

namespace halftone {
namespace {

template <typename T>
std::vector<T> part_of(const std::vector<T>& all, int64_t begin, int64_t end) {
  return all.empty() ? all : std::vector<T>(all.begin() + begin, all.begin() + end);
}

at::Tensor slice(const at::Tensor& x, int64_t begin, int64_t end) {
  return x.defined() ? x.slice(0, begin, end) : x;
}

// One member of all parts; undefined in all of them where it is in one.
template <typename Member>
at::Tensor join(const std::vector<States>& parts, const Member& member) {
  std::vector<at::Tensor> tensors;
  for (const States& part : parts) tensors.push_back(member(part));
  return tensors.front().defined() ? at::cat(tensors) : at::Tensor();
}

ExpertStates rows_of(const ExpertStates& experts, int64_t begin, int64_t end) {
  if (!experts.x_TH.defined()) return experts;
  const int64_t length = experts.residual_BTH.size(1);
  int64_t first = begin * length;
  int64_t past = end * length;
  at::Tensor positions_T = experts.positions_T;
  if (positions_T.defined()) {
    // Positions ascend.
    const int64_t offset = first;
    first = positions_T.lt(first).sum().item<int64_t>();
    past = positions_T.lt(past).sum().item<int64_t>();
    positions_T = positions_T.slice(0, first, past) - offset;
  }
  return {slice(experts.x_TH, first, past),        positions_T,
          slice(experts.ids_TK, first, past),      slice(experts.weights_TK, first, past),
          slice(experts.residual_BTH, begin, end), slice(experts.shared_BTH, begin, end),
          slice(experts.sum_TH, first, past)};
}

at::Tensor join_positions(const std::vector<States>& parts, int64_t rows_per_part) {
  std::vector<at::Tensor> positions;
  for (const States& part : parts) {
    const ExpertStates& experts = part.experts;
    if (!experts.positions_T.defined()) return {};
    const int64_t before = std::ssize(positions) * rows_per_part * experts.residual_BTH.size(1);
    positions.push_back(experts.positions_T + before);
  }
  return at::cat(positions);
}

}  // namespace

BatchContext rows_of(const BatchContext& batch, int64_t begin, int64_t end) {
  BatchContext rows = batch;
  rows.tokens = part_of(batch.tokens, begin, end);
  rows.encoder_tokens = part_of(batch.encoder_tokens, begin, end);
  return rows;
}

States rows_of(const States& states, int64_t begin, int64_t end) {
  return {slice(states.x, begin, end), slice(states.encoder, begin, end),
          rows_of(states.experts, begin, end)};
}

States join_rows(const std::vector<States>& parts, int64_t rows_per_part) {
  States whole{join(parts, [](const States& part) { return part.x; }),
               join(parts, [](const States& part) { return part.encoder; })};
  const auto of_experts = [&](at::Tensor ExpertStates::*member) {
    return join(parts, [&](const States& part) { return part.experts.*member; });
  };
  whole.experts = {of_experts(&ExpertStates::x_TH),         join_positions(parts, rows_per_part),
                   of_experts(&ExpertStates::ids_TK),       of_experts(&ExpertStates::weights_TK),
                   of_experts(&ExpertStates::residual_BTH), of_experts(&ExpertStates::shared_BTH),
                   of_experts(&ExpertStates::sum_TH)};
  return whole;
}

}  // namespace halftone
