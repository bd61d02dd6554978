// SmoothQuant (Xiao et al. 2022; calibration.md, 5.5): outliers of the input move into the weight.
#include <ATen/ATen.h>

#include "calibrate/algorithm.h"
#include "calibrate/smoothing.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

constexpr double kSmallest = 0x1p-31;

// T(colmax|W|^(1-alpha)) / amax^alpha within [1e-4, 1e4].
at::Tensor scale_of(const at::Tensor& w_NK, const at::Tensor& act_amax_K, double alpha) {
  const at::Tensor w_K = w_NK.abs().amax(0).cpu().pow(1.0 - alpha).to(at::kFloat);
  at::Tensor scale = w_K / act_amax_K.pow(alpha);
  if (scale.min().item<float>() <= kSmallest) {
    scale = at::where(act_amax_K <= kSmallest, at::ones_like(scale), scale);
  }
  return scale.clamp(1e-4, 1e4);
}

void apply(const StageRun& run, const AlgorithmSpec& spec, const Choices& /*choices*/,
           StageSolution& solution) {
  const double alpha = option(spec, "alpha");
  for (size_t i = 0; i < solution.linears.size(); ++i) {
    if (run.format(i).smoothing != Smoothing::kSmoothQuant) continue;
    LinearSolution& linear = solution.linears[i];
    const at::Tensor& act = run.statistics.channel_amax[i];
    smooth(run, i, scale_of(run.weight(i), act, alpha), linear);
  }
}

}  // namespace

Algorithm smoothquant_algorithm() {
  Algorithm algorithm;
  algorithm.name = "smoothquant";
  algorithm.smoothing = Smoothing::kSmoothQuant;
  algorithm.fits = [](const LinearFormat& format) {
    return format.codec->name() == "int8" && format.input.kind == InputKind::kInt8;
  };
  algorithm.fits_text = "INT8 weights with INT8 inputs";
  algorithm.apply = &apply;
  return algorithm;
}

}  // namespace halftone
