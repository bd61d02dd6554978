#include "calibrate/statistics.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <span>

#include "dist/reductions.h"

namespace halftone {
namespace {

at::Tensor absent(int64_t size) {
  return at::full({size}, MaxBucket::kAbsent, at::kFloat);
}

CacheStatistics unseen_cache(int64_t channels) {
  // Extremes are reduced as maxima, the smallest negated; any number beats these.
  const at::Tensor lowest = at::full({channels}, -std::numeric_limits<float>::max(), at::kFloat);
  return {MaxBucket::kAbsent, MaxBucket::kAbsent, lowest, lowest.neg(), {}};
}

void take_maximum(at::Tensor& into, const at::Tensor& from) {
  if (from.defined()) into = into.defined() ? at::maximum(into, from) : from;
}

void take_maxima(CacheStatistics& into, const CacheStatistics& from) {
  into.amax = std::max(into.amax, from.amax);
  into.rotated_amax = std::max(into.rotated_amax, from.rotated_amax);
  take_maximum(into.largest, from.largest);
  into.smallest = at::minimum(into.smallest, from.smallest);
}

// The mean of both, each over so many tokens.
void take_mean(at::Tensor& into, int64_t tokens, const at::Tensor& from, int64_t more) {
  if (!from.defined() || more == 0) return;
  if (!into.defined() || tokens == 0) {
    into = from;
    return;
  }
  const double share = static_cast<double>(more) / static_cast<double>(tokens + more);
  into = (into.to(at::kDouble) * (1.0 - share) + from.to(at::kDouble) * share).to(at::kFloat);
}

void take_rows(CacheStatistics& into, const CacheStatistics& from) {
  take_maxima(into, from);
  take_mean(into.mean, into.tokens, from.mean, from.tokens);
  into.tokens += from.tokens;
}

std::span<float> span_of(at::Tensor& tensor) {
  return {tensor.mutable_data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

}  // namespace

StageStatistics::StageStatistics(const StageSpec& stage)
    : input_amax(stage.linears.size(), MaxBucket::kAbsent),
      channel_amax(stage.linears.size()),
      mean_abs(stage.linears.size()),
      tokens(stage.linears.size(), 0) {
  for (const LinearSite& linear : stage.linears) widths_.push_back(linear.in);
  for (const AttentionSite& attention : stage.attentions) {
    keys.push_back(unseen_cache(attention.kv_heads * attention.key_dim));
    values.push_back(unseen_cache(attention.kv_heads * attention.value_dim));
  }
}

void StageStatistics::merge(int64_t batch, const StageStatistics& other) {
  std::vector<at::Tensor> means;
  for (size_t i = 0; i < tokens.size(); ++i) {
    input_amax[i] = std::max(input_amax[i], other.input_amax[i]);
    take_maximum(channel_amax[i], other.channel_amax[i]);
    tokens[i] += other.tokens[i];
    means.push_back(other.mean_abs[i]);
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    take_maxima(keys[i], other.keys[i]);
    take_maxima(values[i], other.values[i]);
    means.push_back(other.keys[i].mean);
    means.push_back(other.values[i].mean);
  }
  std::vector<at::Tensor>& stored = batch_means_[batch];
  stored.resize(means.size());
  for (size_t m = 0; m < means.size(); ++m) {
    if (means[m].defined()) stored[m] = means[m];
  }
}

void StageStatistics::take_rows(const StageStatistics& behind) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    input_amax[i] = std::max(input_amax[i], behind.input_amax[i]);
    take_maximum(channel_amax[i], behind.channel_amax[i]);
    take_mean(mean_abs[i], tokens[i], behind.mean_abs[i], behind.tokens[i]);
    tokens[i] += behind.tokens[i];
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    halftone::take_rows(keys[i], behind.keys[i]);
    halftone::take_rows(values[i], behind.values[i]);
  }
}

// Only now: an observer of a large layer sees few of its experts.
void StageStatistics::fill_unseen() {
  for (size_t i = 0; i < channel_amax.size(); ++i) {
    if (!channel_amax[i].defined()) channel_amax[i] = absent(widths_[i]);
  }
}

StageStatistics unseen_statistics(const StageSpec& stage) {
  StageStatistics statistics(stage);
  statistics.fill_unseen();
  return statistics;
}

void StageStatistics::reduce(Communicator& communicator, int64_t batches) {
  reduce_maxima(communicator);
  reduce_means(communicator, batches);
  communicator.all_reduce(tokens.data(), static_cast<int64_t>(tokens.size()), DType::kI64,
                          ReduceOp::kSum);
}

void StageStatistics::reduce_maxima(Communicator& communicator) {
  fill_unseen();
  MaxBucket bucket;
  bucket.add(input_amax);
  for (at::Tensor& channels : channel_amax) bucket.add(span_of(channels));
  for (std::vector<CacheStatistics>* side : {&keys, &values}) {
    for (CacheStatistics& cache : *side) {
      bucket.add({&cache.amax, 1});
      bucket.add({&cache.rotated_amax, 1});
      cache.smallest = cache.smallest.neg();
      bucket.add(span_of(cache.largest));
      bucket.add(span_of(cache.smallest));
    }
  }
  bucket.reduce(communicator);
  for (std::vector<CacheStatistics>* side : {&keys, &values}) {
    for (CacheStatistics& cache : *side) cache.smallest = cache.smallest.neg();
  }
}

// Each mean travels with a one, so that the sum of the ones says how many batches had it: an expert
// need not see a token in every batch.
void StageStatistics::reduce_means(Communicator& communicator, int64_t batches) {
  std::vector<at::Tensor*> into;
  std::vector<int64_t> sizes;
  for (size_t i = 0; i < mean_abs.size(); ++i) {
    into.push_back(&mean_abs[i]);
    sizes.push_back(channel_amax[i].numel());
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    into.push_back(&keys[i].mean);
    sizes.push_back(keys[i].largest.numel());
    into.push_back(&values[i].mean);
    sizes.push_back(values[i].largest.numel());
  }
  int64_t width = 0;
  for (const int64_t size : sizes) width += size + 1;
  int64_t any = 0;
  for (const auto& [batch, means] : batch_means_) {
    for (const at::Tensor& mean : means) any |= mean.defined() ? 1 : 0;
  }
  communicator.all_reduce(&any, 1, DType::kI64, ReduceOp::kMax);
  if (any == 0) return;

  BatchOrderedSums sums(width, batches, communicator);
  for (const auto& [batch, means] : batch_means_) {
    std::vector<float> contribution(static_cast<size_t>(width), 0.0f);
    float* at = contribution.data();
    for (size_t m = 0; m < means.size(); ++m) {
      if (means[m].defined()) {
        const float* mean = means[m].const_data_ptr<float>();
        std::copy(mean, mean + sizes[m], at);
        at[sizes[m]] = 1.0f;
      }
      at += sizes[m] + 1;
    }
    sums.set(batch, contribution);
  }
  const std::vector<double> total = sums.reduce(communicator);
  const double* at = total.data();
  for (size_t m = 0; m < into.size(); ++m) {
    const double count = at[sizes[m]];
    if (count > 0.0) {
      *into[m] = at::empty({sizes[m]}, at::kFloat);
      auto* mean = into[m]->mutable_data_ptr<float>();
      for (int64_t k = 0; k < sizes[m]; ++k) mean[k] = static_cast<float>(at[k] / count);
    }
    at += sizes[m] + 1;
  }
  batch_means_.clear();
}

}  // namespace halftone
