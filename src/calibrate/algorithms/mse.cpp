// Weight scales by least squared error (calibration.md, 5.1 and 5.2): over multiples of the max, or
// over all E4M3 values that a block scale can have. The search runs where a weight is packed.
#include <ATen/ATen.h>

#include <cmath>

#include "calibrate/algorithms/weight_search.h"
#include "dist/partition.h"
#include "dist/reductions.h"
#include "formats/codecs.h"
#include "formats/tensor_bridge.h"
#include "kernels/numeric_types.h"

namespace halftone {
namespace {

// linspace(start, stop, ceil((stop - start) / step) + 1).
std::vector<float> multipliers_of(const AlgorithmSpec& spec) {
  const double start = option(spec, "start_multiplier");
  const double stop = option(spec, "stop_multiplier");
  const double step = option(spec, "step_size");
  const auto count = static_cast<int64_t>(std::ceil((stop - start) / step)) + 1;
  const at::Tensor values = at::linspace(start, stop, count, at::kFloat);
  const float* data = values.const_data_ptr<float>();
  return {data, data + count};
}

// FP8 with one scale: its amax must be known before it is shared.
float best_tensor_amax(const StageRun& run, size_t i, const std::vector<float>& multipliers) {
  const at::Tensor w = run.weight(i);
  float best = run.weight_amax[i];
  double least = std::numeric_limits<double>::infinity();
  for (const float multiplier : multipliers) {
    const float amax = run.weight_amax[i] * multiplier;
    const PackedLinear packed = run.format(i).codec->pack(w, {amax, {}}, run.numerics, &run.pool);
    const at::Tensor back = run.format(i).codec->unpack(packed, at::kFloat, &run.pool);
    const double error = (w.to(at::kFloat) - back).square().sum(at::kDouble).item<double>();
    if (!(error < least)) continue;
    least = error;
    best = amax;
  }
  return best;
}

void search_tensor_amaxes(const StageRun& run, const std::vector<float>& multipliers,
                          StageSolution& solution) {
  std::vector<size_t> linears;
  std::vector<int64_t> costs;
  for (size_t i = 0; i < solution.linears.size(); ++i) {
    if (!run.format(i).quantized() || run.format(i).codec->name() != "fp8") continue;
    linears.push_back(i);
    costs.push_back(run.stage.linears[i].out * run.stage.linears[i].in);
  }
  const std::vector<int> rank_of = deal_by_cost(costs, run.ranks.size());
  std::vector<float> amax(linears.size(), MaxBucket::kAbsent);
  for (size_t l = 0; l < linears.size(); ++l) {
    if (rank_of[l] == run.ranks.rank()) amax[l] = best_tensor_amax(run, linears[l], multipliers);
  }
  MaxBucket bucket;
  bucket.add(amax);
  bucket.reduce(run.ranks);
  for (size_t l = 0; l < linears.size(); ++l) solution.linears[linears[l]].weight_amax = amax[l];
}

bool searches_blocks(const LinearFormat& format) {
  const std::string kind = format.codec->name();
  return kind == "int8" || kind.starts_with("int4") || frozen_nvfp4(*format.codec).has_value();
}

void apply(const StageRun& run, const AlgorithmSpec& spec, const Choices& /*choices*/,
           StageSolution& solution) {
  const bool sweep = flag_option(spec, "fp8_scale_sweep");
  const std::vector<float> multipliers = multipliers_of(spec);
  for (size_t i = 0; i < solution.linears.size(); ++i) {
    const LinearFormat& format = run.format(i);
    if (!format.quantized() || !searches_blocks(format)) continue;
    // The sweep is for frozen NVFP4 blocks; other formats stay at the maximum with it.
    if (sweep && !frozen_nvfp4(*format.codec)) continue;
    BlockAmaxRule& rule = solution.linears[i].block_amax;
    rule.kind = sweep ? BlockAmaxRule::Kind::kSweep : BlockAmaxRule::Kind::kMultipliers;
    rule.candidates = sweep ? e4m3_sweep() : multipliers;
  }
  if (!sweep) search_tensor_amaxes(run, multipliers, solution);
}

}  // namespace

std::vector<float> e4m3_sweep() {
  std::vector<float> candidates;
  for (uint8_t code = 1; code < 0x7f; ++code) candidates.push_back(float_of_e4m3(code) / 448.0f);
  return candidates;
}

Algorithm mse_algorithm() {
  Algorithm algorithm;
  algorithm.name = "mse";
  algorithm.fits = [](const LinearFormat& format) {
    return searches_blocks(format) || format.codec->name() == "fp8";
  };
  algorithm.fits_text = "INT8, INT4, per-tensor FP8 and static NVFP4 weights";
  algorithm.apply = &apply;
  return algorithm;
}

}  // namespace halftone
