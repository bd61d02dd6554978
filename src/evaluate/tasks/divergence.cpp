#include "evaluate/tasks/divergence.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

// Of one row, sums.
struct RowDivergence {
  double sum = 0.0;
  double max = 0.0;
  double agreed = 0.0;
  double tokens = 0.0;
};

RowDivergence compare_row(const LayerPass& reference, const LayerPass& subject,
                          const RowPlace& place) {
  RowDivergence result;
  const TokenRange range = place.tokens();
  for (int64_t begin = range.begin; begin + 1 < range.end;) {
    const int64_t end = std::min(begin + reference.piece() / 2 + 1, range.end - 1);
    const at::Tensor log_p = at::log_softmax(reference.logits(place, begin, end), -1);
    const at::Tensor log_q = at::log_softmax(subject.logits(place, begin, end), -1);
    const at::Tensor kl_T = (log_p.exp() * (log_p - log_q)).sum(-1);
    result.sum += kl_T.sum(at::kDouble).item<double>();
    result.max = std::max(result.max, kl_T.max().item<double>());
    result.agreed += log_p.argmax(-1).eq(log_q.argmax(-1)).sum().item<double>();
    result.tokens += static_cast<double>(end - begin);
    begin = end;
  }
  return result;
}

Divergence reduce(std::vector<RowDivergence>& rows, Communicator& ranks) {
  // Each row is one rank's: the sums over ranks add nothing but zeros to it.
  static_assert(sizeof(RowDivergence) == 4 * sizeof(double));
  ranks.all_reduce(rows.data(), 4 * std::ssize(rows), DType::kF64, ReduceOp::kSum);
  Divergence result;
  double sum = 0.0, agreed = 0.0, tokens = 0.0;
  for (const RowDivergence& row : rows) {
    sum += row.sum;
    agreed += row.agreed;
    tokens += row.tokens;
    result.max = std::max(result.max, row.max);
  }
  if (tokens == 0.0) {
    throw InputError("no sample has two tokens: there is nothing to predict; give more --data");
  }
  if (!std::isfinite(sum)) {
    throw InputError(
        "one of the two models has logits that are NaN or infinite: it overflows in this --dtype, "
        "or its weights or scales are damaged");
  }
  result.mean = sum / tokens;
  result.agreement = agreed / tokens;
  result.tokens = std::llround(tokens);
  return result;
}

}  // namespace

Divergence evaluate_divergence(const Subject& reference, const Subject& subject,
                               const std::vector<Batch>& batches, const LayerPassOptions& options,
                               const Cluster& cluster) {
  if (reference.model.vocabulary() != subject.model.vocabulary()) {
    throw InputError(concat("'", reference.checkpoint.directory().string(),
                            "' has a vocabulary of ", reference.model.vocabulary(), ", '",
                            subject.checkpoint.directory().string(), "' of ",
                            subject.model.vocabulary(), ": they cannot be compared"));
  }
  LayerPassOptions without_held = options;
  without_held.held = nullptr;
  const LayerPass of_reference(reference.checkpoint, reference.model, reference.source, batches,
                               without_held, cluster, "reference");
  const LayerPass of_subject(subject.checkpoint, subject.model, subject.source, batches, options,
                             cluster, "kl");
  std::vector<RowDivergence> rows(static_cast<size_t>(rows_of(batches)));
  of_subject.for_each_row([&](size_t row, const RowPlace& place) {
    rows[row] = compare_row(of_reference, of_subject, place);
  });
  return reduce(rows, cluster.control);
}

}  // namespace halftone
