#include "evaluate/tasks/perplexity.h"

#include <cmath>

#include "core/error.h"
#include "evaluate/tasks/scoring.h"

namespace halftone {

Perplexity evaluate_perplexity(const Checkpoint& checkpoint, Model& model, WeightSource& source,
                               const std::vector<Batch>& batches, const LayerPassOptions& options,
                               const Cluster& cluster) {
  const std::vector<int64_t> first(static_cast<size_t>(rows_of(batches)), 1);
  Perplexity result;
  for (const RowScore& score :
       score_rows(checkpoint, model, source, batches, first, options, cluster, "perplexity")) {
    result.nll -= score.log_probability;
    result.tokens += score.tokens;
  }
  if (result.tokens == 0) {
    throw InputError("no sample has two tokens: there is nothing to predict; give more --data");
  }
  result.nll /= static_cast<double>(result.tokens);
  result.value = std::exp(result.nll);
  return result;
}

}  // namespace halftone
