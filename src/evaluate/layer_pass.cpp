#include "evaluate/layer_pass.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/memory.h"
#include "core/progress.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

// Logits of a piece of a batch take at most about this much.
constexpr int64_t kLogitBytes = 64 << 20;

}  // namespace

LayerPass::LayerPass(const Checkpoint& checkpoint, Model& model, WeightSource& source,
                     const std::vector<Batch>& batches, const LayerPassOptions& options,
                     const Cluster& cluster, const std::string& title)
    : model_(model),
      source_(source),
      batches_(batches),
      cluster_(cluster),
      dtype_(scalar_type_of(options.compute_dtype)),
      pass_(model, batches, {dtype_}, cluster) {
  int64_t longest = 1;
  size_t rows = 0;
  for (const Batch& batch : batches) {
    longest = std::max(longest, batch.length);
    first_row_.push_back(rows);
    rows += static_cast<size_t>(batch.rows);
  }
  model_.prepare(longest, dtype_, cluster.device);
  run_layers(checkpoint, options, title);
}

void LayerPass::run_layers(const Checkpoint& checkpoint, const LayerPassOptions& options,
                           const std::string& title) {
  StageLoader loader(checkpoint, plan_loads(source_.tensors(), options.stage_limit), cluster_,
                     options.held);
  const auto stages = static_cast<int64_t>(model_.stages().size());
  Progress progress(title, stages, options.show_progress && cluster_.world.rank() == 0);
  for (size_t s = 0; s < model_.stages().size();) {
    const LoadStep step = loader.step();
    const StageSpec& stage = model_.stages()[s];
    cluster_.world.activity().begin_stage("evaluate " + stage.name);
    try {
      const LoadedStage loaded = loader.next();
      StageWeights weights = source_.weights(s, loaded, dtype_, cluster_.pool);
      if (stage.kind == StageKind::kHead) {
        weights.own(loaded.bytes());
        head_ = std::move(weights);
      } else {
        pass_.forward(s, step.part, weights, [&](int64_t /*batch*/, const BatchContext& /*rows*/) {
          return source_.make_runner(s);
        });
      }
    } catch (Error& error) {
      error.set_phase("evaluate " + stage.name);
      throw;
    }
    release_free_memory();
    if (!step.part.last) continue;
    progress.step(static_cast<int64_t>(s) + 1, stage.name, loader.bytes_read());
    ++s;
  }
}

void LayerPass::for_each_row(
    const std::function<void(size_t row, const RowPlace& place)>& body) const {
  pass_.for_each_batch([&](int64_t batch, size_t position) {
    const BatchContext& context = pass_.context(batch);
    RowPlace place;
    place.batch_ = batch;
    place.position_ = position;
    for (; place.row_ < std::ssize(context.tokens); ++place.row_) {
      const auto row = static_cast<size_t>(place.row_);
      place.tokens_ = context.tokens[row];
      body(first_row_[static_cast<size_t>(batch)] + row, place);
    }
  });
}

at::Tensor LayerPass::logits(const RowPlace& place, int64_t begin, int64_t end) const {
  const size_t head = model_.stages().size() - 1;
  const std::unique_ptr<LinearRunner> runner = source_.make_runner(head);
  const at::Tensor x_1TH =
      pass_.states(place.position_).x.slice(0, place.row_, place.row_ + 1).slice(1, begin, end);
  return model_.forward(head, {}, head_, {x_1TH, {}}, pass_.context(place.batch_), *runner)
      .x[0]
      .to(at::kFloat);
}

at::Tensor LayerPass::ids(const RowPlace& place, int64_t begin, int64_t end) const {
  const Batch& from = batches_[static_cast<size_t>(place.batch_)];
  at::Tensor ids_T = at::empty({end - begin}, at::kLong);
  std::copy_n(from.input_ids.begin() + place.row_ * from.length + begin, end - begin,
              ids_T.mutable_data_ptr<int64_t>());
  return ids_T.to(cluster_.device);
}

int64_t LayerPass::piece() const {
  return std::max<int64_t>(1, kLogitBytes / (4 * model_.vocabulary()));
}

int64_t rows_of(const std::vector<Batch>& batches) {
  int64_t rows = 0;
  for (const Batch& batch : batches) rows += batch.rows;
  return rows;
}

}  // namespace halftone
