#include "engine/batch_pass.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/log.h"
#include "dist/partition.h"
#include "engine/batch_rows.h"
#include "engine/out_of_memory.h"

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
    : model_(model), cluster_(cluster), drops_logits_(options.drops_logits) {
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
  one_at_a_time_ = cluster.device.is_cuda() || cluster.pool.threads() == 1 || mine_.size() < 2;
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
  const Compute forward = [&](States states, const BatchContext& rows, LinearRunner& runner) {
    return model_.forward(stage, part, weights, std::move(states), rows, runner);
  };
  const bool drops = drops_logits_ && model_.stages()[stage].kind == StageKind::kHead;
  std::vector<Computed> computed(mine_.size());
  std::vector<size_t> left(mine_.size());
  std::iota(left.begin(), left.end(), size_t{0});
  while (true) {
    left = try_all(left, [&](size_t position) {
      computed[position] = compute(position, forward, make_runner);
      if (drops) computed[position].states = {};
      states_[position] = std::move(computed[position].states);
    });
    if (left.empty()) break;
    take_less(stage, left.front());
  }
  if (!on_done) return;
  for (size_t position = 0; position < mine_.size(); ++position) {
    on_done(mine_[position], *computed[position].runner);
  }
}

BatchPass::Computed BatchPass::compute(size_t position, const Compute& forward,
                                       const MakeRunner& make_runner) const {
  const int64_t batch = mine_[position];
  if (rows_per_call_ < std::ssize(context(batch).tokens)) {
    return compute_in_parts(position, forward, make_runner);
  }
  Computed whole;
  whole.runner = make_runner(batch, context(batch));
  // A copy: the states are needed once more where memory does not suffice.
  whole.states = forward(states_[position], context(batch), *whole.runner);
  return whole;
}

BatchPass::Computed BatchPass::compute_in_parts(size_t position, const Compute& forward,
                                                const MakeRunner& make_runner) const {
  const BatchContext& batch = context(mine_[position]);
  const int64_t rows = std::ssize(batch.tokens);
  Computed whole;
  std::vector<States> parts;
  for (int64_t begin = 0; begin < rows; begin += rows_per_call_) {
    const int64_t end = std::min(rows, begin + rows_per_call_);
    whole.parts.push_back(std::make_unique<BatchContext>(rows_of(batch, begin, end)));
    const BatchContext& part = *whole.parts.back();
    std::unique_ptr<LinearRunner> runner = make_runner(mine_[position], part);
    parts.push_back(forward(rows_of(states_[position], begin, end), part, *runner));
    if (whole.runner == nullptr) {
      whole.runner = std::move(runner);
    } else {
      whole.runner->take_rows(*runner);
    }
  }
  whole.states = join_rows(parts, rows_per_call_);
  return whole;
}

std::vector<size_t> BatchPass::try_all(const std::vector<size_t>& positions,
                                       const std::function<void(size_t)>& body) const {
  std::vector<uint8_t> failed(positions.size(), 0);
  const auto one = [&](int64_t i) {
    try {
      body(positions[static_cast<size_t>(i)]);
    } catch (const std::exception& error) {
      if (!is_out_of_memory(error)) throw;
      failed[static_cast<size_t>(i)] = 1;
    }
  };
  if (one_at_a_time_) {
    for (int64_t i = 0; i < std::ssize(positions); ++i) one(i);
  } else {
    cluster_.pool.for_each(std::ssize(positions), one);
  }
  std::vector<size_t> left;
  for (size_t i = 0; i < positions.size(); ++i) {
    if (failed[i] != 0) left.push_back(positions[i]);
  }
  return left;
}

void BatchPass::take_less(size_t stage, size_t failed) {
  release_free_memory(cluster_.device);
  const std::string& name = model_.stages()[stage].name;
  const BatchContext& batch = context(mine_[failed]);
  if (!one_at_a_time_) {
    one_at_a_time_ = true;
    log_warn("memory does not suffice for ", name, ": one batch at a time from here on");
    return;
  }
  const int64_t rows = std::min(rows_per_call_, std::ssize(batch.tokens));
  if (rows <= 1) {
    throw ResourceError(
        concat("out of memory in ", name, ": one row of ",
               std::max(batch.length, batch.encoder_length), " tokens of batch ", mine_[failed],
               " does not fit: shorten the samples (--calib-length, --data-length), "
               "choose a smaller --max-stage-bytes, or use more ranks"));
  }
  rows_per_call_ = rows / 2;
  log_warn("memory does not suffice for ", name, " with ", rows, " rows of ", batch.length,
           " tokens: ", rows_per_call_, " rows at a time from here on");
}

}  // namespace halftone
