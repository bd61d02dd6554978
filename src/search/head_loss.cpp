#include "search/head_loss.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "search/gradients.h"
#include "search/runners.h"

namespace halftone {
namespace {

// Logits of a piece take at most about this much in F32.
constexpr int64_t kLogitBytes = 32 << 20;

// A number in [0, 1) that belongs to a token and to nothing else (splitmix64).
double uniform_of(int64_t seed, int64_t batch, int64_t row, int64_t position) {
  uint64_t state = 0;
  for (const int64_t part : {seed, batch, row, position}) {
    state += static_cast<uint64_t>(part) + 0x9e3779b97f4a7c15U;
    state = (state ^ (state >> 30U)) * 0xbf58476d1ce4e5b9U;
    state = (state ^ (state >> 27U)) * 0x94d049bb133111ebU;
    state ^= state >> 31U;
  }
  return static_cast<double>(state >> 11U) * 0x1.0p-53;
}

}  // namespace

TokenRange predicted_range(const TokenRange& tokens, bool count_padding) {
  const int64_t first = count_padding && tokens.begin > 0 ? tokens.begin - 1 : tokens.begin;
  return {first, std::max(first, tokens.end - 1)};
}

int64_t predicted_tokens(const BatchContext& batch, bool count_padding) {
  int64_t tokens = 0;
  for (const TokenRange& row : batch.tokens) {
    const TokenRange range = predicted_range(row, count_padding);
    tokens += range.end - range.begin;
  }
  return tokens;
}

HeadLoss::HeadLoss(const Model& model, size_t stage, const StageGroups& groups,
                   const std::vector<std::optional<CandidateStage>>& candidates,
                   const std::vector<Batch>& batches, const LossOptions& options, ScoreRule rule,
                   const Cluster& cluster)
    : model_(model),
      stage_(stage),
      groups_(groups),
      candidates_(candidates),
      batches_(batches),
      options_(options),
      rule_(rule),
      cluster_(cluster),
      candidate_weights_(candidates.size()) {
  for (size_t c = 0; c < candidates.size(); ++c) {
    if (!groups.uses(c)) continue;
    candidate_weights_[c] = candidates[c]->weight(0, &cluster.pool);
  }
}

double HeadLoss::go_back(ScoreUnit& unit, const StageWeights& weights) const {
  const at::Tensor& x_BTH = unit.inputs.x;
  unit.gradients = {at::zeros_like(x_BTH), {}};
  const int64_t most = std::max<int64_t>(1, kLogitBytes / (4 * model_.vocabulary()));
  double loss = 0.0;
  for (int64_t row = 0; row < unit.end - unit.begin; ++row) {
    const TokenRange range =
        predicted_range(unit.context.tokens[static_cast<size_t>(row)], options_.count_padding);
    for (int64_t begin = range.begin; begin < range.end; begin += most) {
      const Piece piece{row, begin, std::min(begin + most, range.end)};
      loss += go_back(unit, piece, weights, unit.gradients.x);
    }
  }
  if (!std::isfinite(loss)) {
    throw InputError(concat("the loss of batch ", unit.batch,
                            " is NaN or infinite: the model overflows in this --dtype, or its "
                            "weights are damaged"));
  }
  return loss;
}

double HeadLoss::go_back(ScoreUnit& unit, const Piece& piece, const StageWeights& weights,
                         const at::Tensor& d_x_BTH) const {
  const auto piece_of = [&](const at::Tensor& tensor) {
    return tensor.slice(0, piece.row, piece.row + 1).slice(1, piece.begin, piece.end);
  };
  TapRunner taps(1);
  const at::Tensor x_1TH = as_leaf(piece_of(unit.inputs.x));
  const at::Tensor logits_1TV =
      model_.forward(stage_, {}, weights, {x_1TH, {}}, unit.context, taps).x;
  const at::Tensor logs_TV = at::log_softmax(logits_1TV.detach()[0].to(at::kFloat), -1);
  const at::Tensor shares_TV = logs_TV.exp();
  const at::Tensor labels_T1 = labels(unit, piece, shares_TV).unsqueeze(1);
  const double loss = -logs_TV.gather(1, labels_T1).sum(at::kDouble).item<double>();
  at::Tensor d_logits =
      shares_TV.scatter_add(1, labels_T1, at::full_like(labels_T1, -1.0, shares_TV.options()));
  if (options_.mean) {
    const BatchContext whole = context_of_batch(batches_[static_cast<size_t>(unit.batch)]);
    d_logits = d_logits / static_cast<double>(predicted_tokens(whole, options_.count_padding));
  }
  const std::vector<at::Tensor> gradients = gradients_of(
      {logits_1TV}, {d_logits.to(logits_1TV.scalar_type()).unsqueeze(0)}, {x_1TH, taps.outputs[0]});
  piece_of(d_x_BTH).copy_(gradients[0]);
  // The rows of a unit that is all but this piece's are none of its business.
  const at::Tensor positions_T =
      at::full({piece.end - piece.begin}, piece.row * unit.context.length, at::kLong);
  for (size_t g = 0; g < groups_.groups.size(); ++g) {
    for (const size_t c : groups_.groups[g]->candidates) {
      if (c >= groups_.candidates) continue;
      const at::Tensor bias_N = weights.get(model_.stages()[stage_].linears[0].bias);
      const at::Tensor y_1TV =
          candidates_[c]->run(0, taps.inputs[0], candidate_weights_[c], bias_N);
      unit.add(rule_, groups_.place(g, c), gradients[1][0], taps.outputs[0].detach()[0], y_1TV[0],
               positions_T);
    }
  }
  return loss;
}

at::Tensor HeadLoss::labels(const ScoreUnit& unit, const Piece& piece,
                            const at::Tensor& shares_TV) const {
  if (options_.labels == LossLabels::kData) return next_tokens(unit, piece);
  const int64_t count = piece.end - piece.begin;
  at::Tensor uniform_T1 = at::empty({count, 1}, at::kFloat);
  auto* values = uniform_T1.mutable_data_ptr<float>();
  for (int64_t t = 0; t < count; ++t) {
    values[t] = static_cast<float>(
        uniform_of(options_.seed, unit.batch, unit.begin + piece.row, piece.begin + t));
  }
  const at::Tensor steps_TV = shares_TV.cumsum(-1);
  const at::Tensor wanted_T1 =
      uniform_T1.to(shares_TV.device()) * steps_TV.slice(1, -1, steps_TV.size(1));
  return at::searchsorted(steps_TV, wanted_T1, /*out_int32=*/false, /*right=*/true)
      .squeeze(1)
      .clamp_max(steps_TV.size(1) - 1);
}

at::Tensor HeadLoss::next_tokens(const ScoreUnit& unit, const Piece& piece) const {
  const Batch& batch = batches_[static_cast<size_t>(unit.batch)];
  const int64_t first = (unit.begin + piece.row) * batch.length + piece.begin + 1;
  at::Tensor ids_T = at::empty({piece.end - piece.begin}, at::kLong);
  std::copy_n(batch.input_ids.begin() + first, ids_T.numel(), ids_T.mutable_data_ptr<int64_t>());
  return ids_T.to(cluster_.device);
}

}  // namespace halftone
