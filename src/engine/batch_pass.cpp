#include "engine/batch_pass.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "dist/partition.h"

namespace halftone {
namespace {

// The real tokens of each row of a mask [rows, length].
std::vector<TokenRange> ranges_of(const std::vector<uint8_t>& mask, int64_t rows, int64_t length) {
  std::vector<TokenRange> ranges;
  for (int64_t row = 0; row < rows; ++row) {
    const uint8_t* of_row = mask.data() + row * length;
    TokenRange range;
    while (range.begin < length && of_row[range.begin] == 0) ++range.begin;
    range.end = range.begin;
    while (range.end < length && of_row[range.end] != 0) ++range.end;
    ranges.push_back(range);
  }
  return ranges;
}

at::Tensor ids_tensor(const std::vector<int64_t>& ids, int64_t rows, at::Device device) {
  at::Tensor ids_BT = at::empty({rows, static_cast<int64_t>(ids.size()) / rows}, at::kLong);
  std::copy(ids.begin(), ids.end(), ids_BT.mutable_data_ptr<int64_t>());
  return ids_BT.to(device);
}

at::Tensor encoder_tensor(const Batch& batch, at::ScalarType dtype, at::Device device) {
  if (!batch.encoder) return {};
  const EncoderBatch& encoder = *batch.encoder;
  if (!encoder.ids.empty()) return ids_tensor(encoder.ids, batch.rows, device);
  at::Tensor features = at::empty({batch.rows, encoder.channels, encoder.length}, at::kFloat);
  std::copy(encoder.features.begin(), encoder.features.end(), features.mutable_data_ptr<float>());
  return features.to(device, dtype);
}

}  // namespace

BatchContext context_of_batch(const Batch& batch) {
  BatchContext context;
  context.length = batch.length;
  context.padded = batch.padded();
  context.tokens = ranges_of(batch.mask, batch.rows, batch.length);
  if (!batch.encoder) return context;
  const EncoderBatch& encoder = *batch.encoder;
  context.encoder_length = encoder.length;
  if (encoder.mask.empty()) return context;
  context.encoder_tokens = ranges_of(encoder.mask, batch.rows, encoder.length);
  context.encoder_padded =
      std::find(encoder.mask.begin(), encoder.mask.end(), uint8_t{0}) != encoder.mask.end();
  return context;
}

BatchPass::BatchPass(const Model& model, const std::vector<Batch>& batches,
                     const BatchOptions& options, const Cluster& cluster)
    : model_(model), cluster_(cluster) {
  const Communicator& ranks = cluster.control;
  mine_ = batches_of_rank(static_cast<int64_t>(batches.size()), ranks.rank(), ranks.size());
  for (const Batch& batch : batches) {
    contexts_.push_back(context_of_batch(batch));
    contexts_.back().route_padding = options.count_padding;
    contexts_.back().observed_experts = options.observed_experts;
  }
  for (const int64_t index : mine_) {
    const Batch& batch = batches[static_cast<size_t>(index)];
    states_.push_back({ids_tensor(batch.input_ids, batch.rows, cluster.device),
                       encoder_tensor(batch, options.dtype, cluster.device)});
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

void BatchPass::forward(size_t stage, const StagePart& part, const StageWeights& weights,
                        const MakeRunner& make_runner, const OnDone& on_done) {
  std::vector<std::unique_ptr<LinearRunner>> runners(mine_.size());
  for_each_batch([&](int64_t batch, size_t position) {
    runners[position] = make_runner(batch);
    states_[position] = model_.forward(stage, part, weights, std::move(states_[position]),
                                       context(batch), *runners[position]);
  });
  if (!on_done) return;
  for (size_t position = 0; position < mine_.size(); ++position) {
    on_done(mine_[position], *runners[position]);
  }
}

}  // namespace halftone
