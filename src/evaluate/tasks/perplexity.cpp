#include "evaluate/tasks/perplexity.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "core/memory.h"
#include "core/progress.h"
#include "dist/reductions.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

// Logits of a piece of a batch take at most about this much.
constexpr int64_t kLogitBytes = 64 << 20;

struct Sum {
  double nll = 0.0;
  int64_t tokens = 0;
};

// nll of the tokens that `logits` [T, V] predict: row t is for targets[t].
double nll_of(const at::Tensor& logits_TV, const at::Tensor& targets_T) {
  const at::Tensor log_probabilities = at::log_softmax(logits_TV.to(at::kFloat), -1);
  return -log_probabilities.gather(1, targets_T.unsqueeze(1)).sum(at::kDouble).item<double>();
}

class Evaluation {
 public:
  Evaluation(Model& model, WeightSource& source, const std::vector<Batch>& batches,
             const Cluster& cluster, at::ScalarType dtype)
      : model_(model),
        source_(source),
        batches_(batches),
        cluster_(cluster),
        dtype_(dtype),
        pass_(model, batches, {dtype}, cluster) {}

  void run_step(const LoadStep& step, const LoadedStage& loaded, std::vector<Sum>& sums) {
    const size_t s = step.stage;
    const StageWeights weights = source_.weights(s, loaded, dtype_, cluster_.pool);
    if (model_.stages()[s].kind != StageKind::kHead) {
      pass_.forward(s, step.part, weights,
                    [&](int64_t /*batch*/) { return source_.make_runner(s); });
      return;
    }
    pass_.for_each_batch([&](int64_t batch, size_t position) {
      sums[static_cast<size_t>(batch)] = score(s, weights, batch, position);
    });
  }

  const BatchPass& pass() const { return pass_; }

 private:
  Sum score(size_t head, const StageWeights& weights, int64_t batch, size_t position) const {
    const std::unique_ptr<LinearRunner> runner = source_.make_runner(head);
    const BatchContext& context = pass_.context(batch);
    const at::Tensor& hidden_BTH = pass_.states(position).x;
    const int64_t piece = std::max<int64_t>(1, kLogitBytes / (4 * model_.vocabulary()));
    Sum sum;
    for (size_t row = 0; row < context.tokens.size(); ++row) {
      const TokenRange& range = context.tokens[row];
      const at::Tensor targets = targets_of(batch, static_cast<int64_t>(row));
      for (int64_t begin = range.begin; begin + 1 < range.end; begin += piece) {
        const int64_t end = std::min(begin + piece, range.end - 1);
        const at::Tensor x_BTH =
            hidden_BTH.slice(0, static_cast<int64_t>(row), static_cast<int64_t>(row) + 1)
                .slice(1, begin, end);
        const at::Tensor logits =
            model_.forward(head, {}, weights, {x_BTH, {}}, context, *runner).x;
        sum.nll += nll_of(logits[0], targets.slice(0, begin + 1, end + 1));
        sum.tokens += end - begin;
      }
    }
    return sum;
  }

  at::Tensor targets_of(int64_t batch, int64_t row) const {
    const Batch& from = batches_[static_cast<size_t>(batch)];
    at::Tensor ids = at::empty({from.length}, at::kLong);
    std::copy_n(from.input_ids.begin() + row * from.length, from.length,
                ids.mutable_data_ptr<int64_t>());
    return ids.to(cluster_.device);
  }

  Model& model_;
  WeightSource& source_;
  const std::vector<Batch>& batches_;
  Cluster cluster_;
  at::ScalarType dtype_;
  BatchPass pass_;
};

// FP64 sums over all batches in batch order: each contribution travels as two floats.
Perplexity reduce(const std::vector<Sum>& sums, const std::vector<int64_t>& mine,
                  Communicator& ranks) {
  BatchOrderedSums all(3, static_cast<int64_t>(sums.size()), ranks);
  for (const int64_t batch : mine) {
    const Sum& sum = sums[static_cast<size_t>(batch)];
    const auto high = static_cast<float>(sum.nll);
    const std::array<float, 3> parts{high, static_cast<float>(sum.nll - double{high}),
                                     static_cast<float>(sum.tokens)};
    all.set(batch, parts);
  }
  const std::vector<double> total = all.reduce(ranks);
  Perplexity result;
  result.tokens = std::llround(total[2]);
  if (result.tokens == 0) {
    throw InputError("no sample has two tokens: there is nothing to predict; give more --data");
  }
  result.nll = (total[0] + total[1]) / total[2];
  if (!std::isfinite(result.nll)) {
    throw InputError(
        "the model's logits are NaN or infinite: it overflows in this --dtype, or its "
        "weights or scales are damaged");
  }
  result.value = std::exp(result.nll);
  return result;
}

}  // namespace

Perplexity evaluate_perplexity(const Checkpoint& checkpoint, Model& model, WeightSource& source,
                               const std::vector<Batch>& batches, const PerplexityOptions& options,
                               const Cluster& cluster) {
  const at::ScalarType dtype = scalar_type_of(options.compute_dtype);
  int64_t longest = 1;
  for (const Batch& batch : batches) longest = std::max(longest, batch.length);
  model.prepare(longest, dtype, cluster.device);
  StageLoader loader(checkpoint, plan_loads(source.tensors(), options.stage_limit), cluster,
                     options.held);
  Evaluation evaluation(model, source, batches, cluster, dtype);
  std::vector<Sum> sums(batches.size());
  const auto stages = static_cast<int64_t>(model.stages().size());
  Progress progress("perplexity", stages, options.show_progress && cluster.world.rank() == 0);
  for (size_t s = 0; s < model.stages().size();) {
    const LoadStep step = loader.step();
    cluster.world.activity().begin_stage("evaluate " + model.stages()[s].name);
    try {
      evaluation.run_step(step, loader.next(), sums);
    } catch (Error& error) {
      error.set_phase("evaluate " + model.stages()[s].name);
      throw;
    }
    release_free_memory();
    if (!step.part.last) continue;
    progress.step(static_cast<int64_t>(s) + 1, model.stages()[s].name, loader.bytes_read());
    ++s;
  }
  return reduce(sums, evaluation.pass().mine(), cluster.control);
}

}  // namespace halftone
