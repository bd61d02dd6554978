// NVFP4 input scales with room for outliers that calibration did not show (calibration.md, 5.4):
// from a histogram of the inputs' block amaxes, pooled over all ranks.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "calibrate/algorithms/awq.h"
#include "dist/reductions.h"
#include "formats/codecs.h"

namespace halftone {
namespace {

constexpr const char* kHistogram = "block_amax_histogram";
constexpr int64_t kBins = 512;
constexpr float kLowest = -40.0f;
constexpr float kOctaves = 80.0f;

bool fits(const LinearFormat& format) {
  return format.input.kind == InputKind::kNvfp4 && format.input.needs_amax();
}

int64_t bin_of(float value) {
  const float at = std::floor((std::log2(value) - kLowest) / kOctaves * static_cast<float>(kBins));
  return static_cast<int64_t>(std::clamp(at, 0.0f, static_cast<float>(kBins - 1)));
}

void count(const at::Tensor& x_TK, std::vector<int64_t>& histogram) {
  const at::Tensor amax = block_amax_of(x_TK, 16, nullptr).cpu();
  const float* values = amax.const_data_ptr<float>();
  for (int64_t b = 0; b < amax.numel(); ++b) {
    if (values[b] > 0.0f) ++histogram[static_cast<size_t>(bin_of(values[b]))];
  }
}

// Counts up to 2^48 as two floats, since the store holds F32.
at::Tensor stored(const std::vector<int64_t>& histogram) {
  at::Tensor tensor = at::empty({2, kBins}, at::kFloat);
  auto* values = tensor.mutable_data_ptr<float>();
  for (int64_t b = 0; b < kBins; ++b) {
    values[b] = static_cast<float>(histogram[static_cast<size_t>(b)] >> 24);
    values[kBins + b] = static_cast<float>(histogram[static_cast<size_t>(b)] & 0xffffff);
  }
  return tensor;
}

std::vector<double> counts_of(const at::Tensor& tensor) {
  const float* values = tensor.const_data_ptr<float>();
  std::vector<double> counts;
  for (int64_t b = 0; b < kBins; ++b) {
    counts.push_back(static_cast<double>(values[b]) * 16777216.0 + values[kBins + b]);
  }
  return counts;
}

// The middle of the bin in which the percentile lies, bins below `floor` left out; 0: no counts.
double percentile(const std::vector<double>& counts, double p, double floor) {
  const int64_t first = floor > 0.0 ? bin_of(static_cast<float>(floor)) : 0;
  double total = 0.0;
  for (int64_t b = first; b < kBins; ++b) total += counts[static_cast<size_t>(b)];
  if (total == 0.0) return 0.0;
  double sum = 0.0;
  for (int64_t b = first; b < kBins; ++b) {
    sum += counts[static_cast<size_t>(b)];
    if (sum >= p / 100.0 * total) {
      return std::exp2(kLowest + (static_cast<double>(b) + 0.5) / kBins * kOctaves);
    }
  }
  return 0.0;
}

void choose(const StageRun& run, const AlgorithmSpec& spec, const CapturedInputs& inputs,
            const StageSolution& solution, Choices& choices) {
  const AlgorithmSpec weights = algorithm_option(spec, "weight_scale_algorithm");
  const Algorithm& of_weights = algorithm_named(weights.method);
  if (of_weights.choose != nullptr) of_weights.choose(run, weights, inputs, solution, choices);
  for (size_t i = 0; i < solution.linears.size(); ++i) {
    if (!run.format(i).quantized() || !fits(run.format(i))) continue;
    std::vector<int64_t> histogram(kBins, 0);
    for (const std::vector<at::Tensor>& batch : inputs.inputs) {
      if (batch[i].defined()) count(batch[i], histogram);
    }
    run.ranks.all_reduce(histogram.data(), kBins, DType::kI64, ReduceOp::kSum);
    choices[i][kHistogram] = stored(histogram);
  }
}

void apply(const StageRun& run, const AlgorithmSpec& spec, const Choices& choices,
           StageSolution& solution) {
  const AlgorithmSpec weights = algorithm_option(spec, "weight_scale_algorithm");
  // Maxima are where every solution starts.
  if (weights.method != "max") {
    algorithm_named(weights.method).apply(run, weights, choices, solution);
  }
  for (size_t i = 0; i < solution.linears.size(); ++i) {
    LinearSolution& linear = solution.linears[i];
    const auto histogram = choices[i].find(kHistogram);
    if (histogram == choices[i].end() || !linear.input_amax) continue;
    const std::vector<double> counts = counts_of(histogram->second);
    const double p = option(spec, "upper_percentile");
    const double upper = p >= 100.0 ? *linear.input_amax : percentile(counts, p, 0.0);
    const double anchor = percentile(counts, option(spec, "anchor_percentile"), upper / 1e6);
    if (!(upper > 0.0) || !(anchor > 0.0)) {
      linear.record["fallback"] = "no histogram of the input: its largest value instead";
      continue;
    }
    const double wide = option(spec, "rho") * anchor;
    linear.input_amax = static_cast<float>(std::max(wide, upper));
    linear.input_dtype = DType::kF32;
    linear.record["headroom"] = wide > upper ? "anchor" : "upper percentile";
  }
}

}  // namespace

Algorithm act_headroom_algorithm() {
  Algorithm algorithm;
  algorithm.name = "nvfp4_act_headroom";
  algorithm.needs_inputs = true;
  algorithm.fits = &fits;
  algorithm.fits_text = "NVFP4 inputs";
  algorithm.choose = &choose;
  algorithm.apply = &apply;
  return algorithm;
}

}  // namespace halftone
