#include "search/score_unit.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

// Products beyond this are the overflow of a gradient (calibration.md, 9.4).
constexpr double kLargest = 1e10;

// Temporaries of a piece hold about this many elements.
constexpr int64_t kPieceElements = int64_t{1} << 19;

// [tokens]: the rule's sum over the outputs of each; all [tokens, N].
at::Tensor sum_of_tokens(ScoreRule rule, const at::Tensor& gradient, const at::Tensor& y,
                         const at::Tensor& y_quantized) {
  const int64_t most = std::max<int64_t>(1, kPieceElements / std::max<int64_t>(1, y.size(1)));
  std::vector<at::Tensor> sums;
  for (int64_t begin = 0; begin < y.size(0); begin += most) {
    const auto piece = [&](const at::Tensor& x) { return x.slice(0, begin, begin + most); };
    at::Tensor product = (piece(y_quantized) - piece(y)).to(at::kFloat);
    product.mul_(piece(gradient).to(at::kFloat)).clamp_(-kLargest, kLargest);
    if (rule == ScoreRule::kElements) product.square_();
    sums.push_back(product.sum(-1, false, at::kDouble));
  }
  return sums.empty() ? at::zeros({0}, at::kDouble) : at::cat(sums);
}

// [rows]: the sum of what each row has of `values` [tokens].
at::Tensor sum_of_rows(const at::Tensor& values, int64_t rows, int64_t length,
                       const at::Tensor& positions_T) {
  const at::Tensor tokens = positions_T.defined()
                                ? positions_T
                                : at::arange(values.size(0), values.options().dtype(at::kLong));
  const at::Tensor row_T = at::div(tokens, length, "floor").cpu();
  return at::zeros({rows}, at::kDouble).index_add(0, row_T, values.cpu());
}

}  // namespace

StageGroups::StageGroups(const SearchSpace& space, size_t stage)
    : candidates(space.candidates.size() - 1) {
  for (const LinearGroup& group : space.groups) {
    if (group.stage == stage && group.is_searched()) groups.push_back(&group);
  }
}

bool StageGroups::uses(size_t candidate) const {
  return std::any_of(groups.begin(), groups.end(), [&](const LinearGroup* group) {
    const auto& able = group->candidates;
    return std::find(able.begin(), able.end(), candidate) != able.end();
  });
}

void ScoreUnit::add(ScoreRule rule, size_t place, const at::Tensor& gradient, const at::Tensor& y,
                    const at::Tensor& y_quantized, const at::Tensor& positions_T) {
  if (!gradient.defined()) return;
  const int64_t rows = end - begin;
  const auto flat = [](const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); };
  const at::Tensor of_tokens = sum_of_tokens(rule, flat(gradient), flat(y), flat(y_quantized));
  // An encoder's linear has other positions than the decoder's.
  const int64_t length = y.dim() == 3 ? y.size(1) : context.length;
  const at::Tensor of_rows = sum_of_rows(of_tokens, rows, length, positions_T).contiguous();
  const double* values = of_rows.const_data_ptr<double>();
  for (int64_t row = 0; row < rows; ++row) {
    sums[place][static_cast<size_t>(row)] += values[row];
  }
}

std::vector<double> ScoreUnit::scores(ScoreRule rule, const StageGroups& groups) const {
  std::vector<double> scores;
  for (size_t p = 0; p < sums.size(); ++p) {
    double score = 0.0;
    for (const double sum : sums[p]) score += rule == ScoreRule::kRows ? sum * sum : sum;
    if (!std::isfinite(score)) {
      throw InputError(concat("the gradients at '", groups.groups[p / groups.candidates]->name,
                              "' are NaN or infinite in batch ", batch,
                              ": the model overflows in this --dtype, or its weights are damaged"));
    }
    scores.push_back(score);
  }
  return scores;
}

}  // namespace halftone
