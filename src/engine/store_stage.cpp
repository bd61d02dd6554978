#include "engine/store_stage.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/log.h"
#include "dist/reductions.h"

namespace halftone {
namespace {

constexpr int64_t kCountUnit = 1 << 24;

void put(StatisticsStore& store, const std::string& group, const std::string& name,
         const at::Tensor& tensor) {
  if (!tensor.defined()) return;
  const at::Tensor values = tensor.contiguous();
  const float* data = values.const_data_ptr<float>();
  store.set_values(group, name, {data, data + values.numel()}, values.sizes().vec());
}

void put(StatisticsStore& store, const std::string& group, const std::string& name, float value) {
  if (value != MaxBucket::kAbsent) store.set_values(group, name, {value}, {});
}

at::Tensor tensor_of(const StatisticsStore::Values& stored) {
  at::Tensor tensor = at::empty(stored.shape, at::kFloat);
  std::copy(stored.values.begin(), stored.values.end(), tensor.mutable_data_ptr<float>());
  return tensor;
}

// Undefined when it is not there.
at::Tensor get(const StatisticsStore& store, const std::string& group, const std::string& name,
               const std::vector<int64_t>& shape) {
  if (!store.has(group, name)) return {};
  const StatisticsStore::Values stored = store.values(group, name);
  if (stored.shape != shape) {
    throw InputError(concat("the calibration store's '", name, "' of '", group,
                            "' does not have the shape of this model: it was made for another"));
  }
  return tensor_of(stored);
}

void get(const StatisticsStore& store, const std::string& group, const std::string& name,
         float& value) {
  const at::Tensor stored = get(store, group, name, {});
  if (stored.defined()) value = stored.item<float>();
}

void save_cache(StatisticsStore& store, const std::string& group, const std::string& side,
                const CacheStatistics& cache) {
  if (cache.amax == MaxBucket::kAbsent) return;
  put(store, group, side + "_amax", cache.amax);
  put(store, group, side + "_rotated_amax", cache.rotated_amax);
  put(store, group, side + "_largest", cache.largest);
  put(store, group, side + "_smallest", cache.smallest);
  put(store, group, side + "_mean", cache.mean);
}

void load_cache(const StatisticsStore& store, const std::string& group, const std::string& side,
                CacheStatistics& cache) {
  get(store, group, side + "_amax", cache.amax);
  get(store, group, side + "_rotated_amax", cache.rotated_amax);
  const std::vector<int64_t> shape = cache.largest.sizes().vec();
  const auto take = [&](const char* name, at::Tensor& into) {
    const at::Tensor stored = get(store, group, side + name, shape);
    if (stored.defined()) into = stored;
  };
  take("_largest", cache.largest);
  take("_smallest", cache.smallest);
  take("_mean", cache.mean);
}

[[noreturn]] void fail(const std::string& what, const std::string& of, const Recipe& recipe) {
  throw InputError(concat("the calibration store has no ", what, " of '", of, "', which '",
                          recipe.name, "' needs: run halftone quantize with this format"));
}

}  // namespace

void save_statistics(StatisticsStore& store, const StageSpec& stage,
                     const StageStatistics& statistics) {
  for (size_t i = 0; i < stage.linears.size(); ++i) {
    const std::string& name = stage.linears[i].name;
    const int64_t tokens = statistics.tokens[i];
    if (tokens > 0) {
      put(store, name, "input_amax", statistics.input_amax[i]);
      put(store, name, "channel_amax", statistics.channel_amax[i]);
      put(store, name, "mean_abs", statistics.mean_abs[i]);
    }
    store.set_values(
        name, "tokens",
        {static_cast<float>(tokens / kCountUnit), static_cast<float>(tokens % kCountUnit)}, {2});
  }
  for (size_t i = 0; i < stage.attentions.size(); ++i) {
    save_cache(store, stage.attentions[i].name, "key", statistics.keys[i]);
    save_cache(store, stage.attentions[i].name, "value", statistics.values[i]);
  }
}

StageStatistics load_statistics(const StatisticsStore& store, const StageSpec& stage) {
  StageStatistics statistics = unseen_statistics(stage);
  for (size_t i = 0; i < stage.linears.size(); ++i) {
    const LinearSite& linear = stage.linears[i];
    get(store, linear.name, "input_amax", statistics.input_amax[i]);
    const at::Tensor channels = get(store, linear.name, "channel_amax", {linear.in});
    if (channels.defined()) statistics.channel_amax[i] = channels;
    statistics.mean_abs[i] = get(store, linear.name, "mean_abs", {linear.in});
    const at::Tensor tokens = get(store, linear.name, "tokens", {2});
    if (!tokens.defined()) continue;
    const float* counts = tokens.const_data_ptr<float>();
    statistics.tokens[i] =
        static_cast<int64_t>(counts[0]) * kCountUnit + static_cast<int64_t>(counts[1]);
  }
  for (size_t i = 0; i < stage.attentions.size(); ++i) {
    load_cache(store, stage.attentions[i].name, "key", statistics.keys[i]);
    load_cache(store, stage.attentions[i].name, "value", statistics.values[i]);
  }
  return statistics;
}

void save_choices(StatisticsStore& store, const StageSpec& stage, const std::string& format,
                  const Choices& choices) {
  for (size_t i = 0; i < choices.size(); ++i) {
    for (const auto& [name, tensor] : choices[i]) {
      if (tensor.scalar_type() != at::kFloat) continue;
      put(store, stage.linears[i].name, concat(format, ":", name), tensor);
    }
  }
}

Choices load_choices(const StatisticsStore& store, const StageSpec& stage,
                     const std::string& format) {
  return load_choices(store, stage, std::vector<std::string>(stage.linears.size(), format));
}

Choices load_choices(const StatisticsStore& store, const StageSpec& stage,
                     const std::vector<std::string>& formats) {
  Choices choices(stage.linears.size());
  for (size_t i = 0; i < choices.size(); ++i) {
    const std::string prefix = formats[i] + ":";
    const std::string& group = stage.linears[i].name;
    for (const std::string& name : store.datasets(group)) {
      if (!name.starts_with(prefix)) continue;
      choices[i][name.substr(prefix.size())] = tensor_of(store.values(group, name));
    }
  }
  return choices;
}

void check_statistics(const StageSpec& stage, const StagePlan& plan, const Recipe& recipe,
                      const StageStatistics& statistics, const Choices& choices) {
  for (size_t i = 0; i < stage.linears.size(); ++i) {
    const LinearFormat& format = plan.linears[i];
    if (!format.quantized()) continue;
    const LinearSite& linear = stage.linears[i];
    // An expert that no token reached has no statistics in a complete store either.
    const bool unseen = linear.expert >= 0 && statistics.tokens[i] == 0;
    const bool smoothed = format.smoothing != Smoothing::kNone;
    if ((format.input.needs_amax() || smoothed) && !unseen &&
        statistics.input_amax[i] == MaxBucket::kAbsent) {
      fail("input statistics", linear.name, recipe);
    }
    for (const AlgorithmSpec& spec : recipe.algorithms) {
      const Algorithm& algorithm = algorithm_named(spec.method);
      if (algorithm.choose == nullptr || unseen || !algorithm.works_on(format)) continue;
      if (choices[i].empty()) fail("results of " + spec.method, linear.name, recipe);
    }
  }
  for (size_t i = 0; i < stage.attentions.size(); ++i) {
    const KvFormat format = plan.kv[i];
    const CacheStatistics& keys = statistics.keys[i];
    const bool complete = keys.amax != MaxBucket::kAbsent &&
                          (!rotates_keys(format) || keys.rotated_amax != MaxBucket::kAbsent) &&
                          (!has_bias(format) || keys.mean.defined());
    if (has_scales(format) && !complete) {
      fail("statistics of keys and values", stage.attentions[i].name, recipe);
    }
  }
}

}  // namespace halftone
