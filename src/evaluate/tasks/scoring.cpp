#include "evaluate/tasks/scoring.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "kernels/check.h"

namespace halftone {
namespace {

RowScore score_row(const LayerPass& pass, const RowPlace& place, int64_t first) {
  RowScore score;
  bool greedy = true;
  const TokenRange range = place.tokens();
  // Position t predicts the token at t + 1.
  for (int64_t begin = range.begin + std::max<int64_t>(first, 1) - 1; begin + 1 < range.end;) {
    const int64_t end = std::min(begin + pass.piece(), range.end - 1);
    const at::Tensor logits_TV = pass.logits(place, begin, end);
    const at::Tensor targets_T1 = pass.ids(place, begin + 1, end + 1).unsqueeze(1);
    score.log_probability +=
        at::log_softmax(logits_TV, -1).gather(1, targets_T1).sum(at::kDouble).item<double>();
    score.tokens += end - begin;
    greedy = greedy && logits_TV.argmax(-1, /*keepdim=*/true).equal(targets_T1);
    begin = end;
  }
  score.greedy = greedy && score.tokens > 0;
  return score;
}

// Each row is one rank's: the sums over ranks add nothing but zeros to it.
void share(std::vector<RowScore>& scores, Communicator& ranks) {
  if (ranks.size() == 1) return;
  std::vector<double> probabilities;
  std::vector<int64_t> counts;
  for (const RowScore& score : scores) {
    probabilities.push_back(score.log_probability);
    counts.push_back(score.tokens);
    counts.push_back(score.greedy ? 1 : 0);
  }
  ranks.all_reduce(probabilities.data(), std::ssize(probabilities), DType::kF64, ReduceOp::kSum);
  ranks.all_reduce(counts.data(), std::ssize(counts), DType::kI64, ReduceOp::kSum);
  for (size_t row = 0; row < scores.size(); ++row) {
    scores[row] = {probabilities[row], counts[2 * row], counts[2 * row + 1] != 0};
  }
}

}  // namespace

std::vector<RowScore> score_rows(const Checkpoint& checkpoint, Model& model, WeightSource& source,
                                 const std::vector<Batch>& batches,
                                 const std::vector<int64_t>& first, const LayerPassOptions& options,
                                 const Cluster& cluster, const std::string& title) {
  check(std::ssize(first) == rows_of(batches), "each row has a first token");
  const LayerPass pass(checkpoint, model, source, batches, options, cluster, title);
  std::vector<RowScore> scores(first.size());
  pass.for_each_row(
      [&](size_t row, const RowPlace& place) { scores[row] = score_row(pass, place, first[row]); });
  share(scores, cluster.control);
  for (const RowScore& score : scores) {
    if (std::isfinite(score.log_probability)) continue;
    throw InputError(
        "the model's logits are NaN or infinite: it overflows in this --dtype, or its weights or "
        "scales are damaged");
  }
  return scores;
}

}  // namespace halftone
