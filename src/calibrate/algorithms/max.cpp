// Max calibration: scales from the largest magnitudes seen (calibration.md, 4). Where every other
// algorithm starts.
#include <ATen/ATen.h>

#include <algorithm>

#include "calibrate/algorithm.h"
#include "core/error.h"
#include "core/log.h"
#include "dist/reductions.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

void solve_input(const StageRun& run, size_t i, LinearSolution& linear) {
  const InputFormat& input = run.format(i).input;
  linear.input_dtype = run.compute_dtype;
  if (!input.has_scale()) return;
  if (input.constant_amax) {
    linear.input_amax = static_cast<float>(*input.constant_amax);
    linear.input_dtype = DType::kF32;
  } else if (run.statistics.input_amax[i] != MaxBucket::kAbsent) {
    linear.input_amax = run.statistics.input_amax[i];
  } else if (run.stage.linears[i].expert < 0) {
    throw InputError(concat("'", run.stage.linears[i].name,
                            "' saw no token in calibration: give more --calib data"));
  }
}

// The mean of the batches' means, and the largest distance from it (calibration.md, 6). The
// reference takes the distance from the running mean, so that its amax depends on the order of the
// batches.
CacheScale affine_scale(const StageRun& run, const CacheStatistics& seen, int64_t heads) {
  const at::ScalarType compute = scalar_type_of(run.compute_dtype);
  const at::Tensor bias = seen.mean.to(scalar_type_of(run.model_dtype)).to(compute);
  const at::Tensor above = seen.largest.to(compute) - bias;
  const at::Tensor below = bias - seen.smallest.to(compute);
  return {at::maximum(above, below).max().to(at::kFloat).item<float>(),
          bias.to(at::kFloat).view({heads, -1})};
}

CacheSolution solve_cache(const StageRun& run, size_t i) {
  const KvFormat format = run.plan.kv[i];
  if (!has_scales(format)) return {};
  const AttentionSite& attention = run.stage.attentions[i];
  const CacheStatistics& keys = run.statistics.keys[i];
  const CacheStatistics& values = run.statistics.values[i];
  if (keys.amax == MaxBucket::kAbsent || values.amax == MaxBucket::kAbsent) {
    throw InputError(
        concat("'", attention.name, "' saw no token in calibration: give more --calib data"));
  }
  if (has_bias(format)) {
    return {affine_scale(run, keys, attention.kv_heads),
            affine_scale(run, values, attention.kv_heads)};
  }
  return {{rotates_keys(format) ? keys.rotated_amax : keys.amax, {}}, {values.amax, {}}};
}

void apply(const StageRun& run, const AlgorithmSpec& /*spec*/, const Choices& /*choices*/,
           StageSolution& solution) {
  solution.linears.assign(run.stage.linears.size(), {});
  for (size_t i = 0; i < solution.linears.size(); ++i) {
    if (!run.format(i).quantized()) continue;
    solution.linears[i].weight_amax = run.weight_amax[i];
    solve_input(run, i, solution.linears[i]);
  }
  for (size_t i = 0; i < run.stage.attentions.size(); ++i) {
    solution.caches.push_back(solve_cache(run, i));
  }
}

}  // namespace

Algorithm max_algorithm() {
  Algorithm algorithm;
  algorithm.name = "max";
  algorithm.apply = &apply;
  return algorithm;
}

}  // namespace halftone
