#include "engine/batch_pass.h"

#include <ATen/ATen.h>

#include "dist/partition.h"

namespace halftone {

BatchContext context_of_batch(const Batch& batch) {
  BatchContext context;
  context.length = batch.length;
  context.padded = batch.padded();
  for (int64_t row = 0; row < batch.rows; ++row) {
    const uint8_t* mask = batch.mask.data() + row * batch.length;
    TokenRange range;
    while (range.begin < batch.length && mask[range.begin] == 0) ++range.begin;
    range.end = range.begin;
    while (range.end < batch.length && mask[range.end] != 0) ++range.end;
    context.tokens.push_back(range);
  }
  return context;
}

BatchPass::BatchPass(const Model& model, const std::vector<Batch>& batches, const Cluster& cluster)
    : model_(model), batches_(batches), cluster_(cluster) {
  const Communicator& ranks = cluster.control;
  mine_ = batches_of_rank(static_cast<int64_t>(batches.size()), ranks.rank(), ranks.size());
  for (const Batch& batch : batches) contexts_.push_back(context_of_batch(batch));
  for (const int64_t index : mine_) {
    const Batch& batch = batches_[static_cast<size_t>(index)];
    at::Tensor ids_BT = at::empty({batch.rows, batch.length}, at::kLong);
    std::copy(batch.input_ids.begin(), batch.input_ids.end(), ids_BT.mutable_data_ptr<int64_t>());
    hidden_.push_back(ids_BT.to(cluster.device));
  }
}

void BatchPass::for_each_batch(
    const std::function<void(int64_t batch, size_t position)>& body) const {
  const auto count = static_cast<int64_t>(mine_.size());
  const auto one = [&](int64_t i) { body(mine_[static_cast<size_t>(i)], static_cast<size_t>(i)); };
  if (cluster_.device.is_cuda()) {
    for (int64_t i = 0; i < count; ++i) one(i);
  } else {
    cluster_.pool.for_each(count, one);
  }
}

void BatchPass::compute(size_t stage, const StageWeights& weights, const MakeRunner& make_runner,
                        const OnDone& on_done, bool keep_outputs) {
  std::vector<std::unique_ptr<LinearRunner>> runners(mine_.size());
  for_each_batch([&](int64_t batch, size_t position) {
    runners[position] = make_runner(batch);
    at::Tensor output =
        model_.forward(stage, weights, hidden_[position], context(batch), *runners[position]);
    if (keep_outputs) hidden_[position] = std::move(output);
  });
  if (!on_done) return;
  for (size_t position = 0; position < mine_.size(); ++position) {
    on_done(mine_[position], *runners[position]);
  }
}

void BatchPass::forward(size_t stage, const StageWeights& weights, const MakeRunner& make_runner,
                        const OnDone& on_done) {
  compute(stage, weights, make_runner, on_done, true);
}

void BatchPass::rehearse(size_t stage, const StageWeights& weights, const MakeRunner& make_runner,
                         const OnDone& on_done) {
  compute(stage, weights, make_runner, on_done, false);
}

}  // namespace halftone
