// AWQ (Lin et al. 2023; calibration.md, 5.6): per linear the exponent alpha whose smoothing loses
// least when the weight is quantized.
#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "calibrate/algorithms/awq.h"
#include "calibrate/smoothing.h"
#include "dist/reductions.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

constexpr const char* kAlpha = "awq_alpha";
constexpr const char* kLosses = "awq_losses";

// 0, step, 2 step, ... below 1 + step, as floats (torch.arange).
std::vector<float> alphas_of(const AlgorithmSpec& spec) {
  const double step = option(spec, "alpha_step");
  const auto count = static_cast<int64_t>(std::ceil((1.0 + step) / step));
  std::vector<float> alphas;
  for (int64_t i = 0; i < count; ++i) alphas.push_back(static_cast<float>(i * step));
  return alphas;
}

// How much of its block's largest weight a column has, on average over rows; F32 [in].
at::Tensor weight_share(const at::Tensor& w_NK, int64_t block) {
  const int64_t in = w_NK.size(1);
  const int64_t size = block > 0 ? block : in;
  const int64_t padding = (size - in % size) % size;
  const at::Tensor blocks =
      (padding > 0 ? at::constant_pad_nd(w_NK, {0, padding}) : w_NK).abs().view({-1, size});
  const double tiny = w_NK.scalar_type() == at::kHalf ? 0x1p-14 : 0x1p-126;
  const at::Tensor share = blocks / (blocks.amax(1, /*keepdim=*/true) + tiny);
  return share.view({w_NK.size(0), -1}).slice(1, 0, in).mean(0).to(at::kFloat).cpu();
}

// act^alpha / share^(1 - alpha), clamped and centred; F32 [in].
at::Tensor scale_of(const at::Tensor& act_K, const at::Tensor& share_K, float alpha) {
  const at::Tensor ratio =
      (act_K.pow(alpha) / (share_K.pow(1.0 - alpha) + 0x1p-126)).clamp(1e-4, 1e4);
  return ratio / (ratio.max() * ratio.min()).sqrt();
}

bool finite(const at::Tensor& x) {
  return at::isfinite(x).all().item<bool>();
}

// The loss of every alpha for one linear: per batch of this rank the mean squared difference of the
// outputs.
class Search {
 public:
  Search(const StageRun& run, const CapturedInputs& inputs, size_t linear)
      : run_(run), inputs_(inputs), linear_(linear), w_NK_(run.weight(linear)) {
    compute_ = scalar_type_of(run.compute_dtype);
    outputs_.resize(inputs.batches.size());
    const at::Tensor w = w_NK_.to(compute_);
    for_each_batch(
        [&](size_t position, const at::Tensor& x) { outputs_[position] = at::linear(x, w); });
  }

  // losses[position]
  void run(const at::Tensor& scale_K, std::vector<float>& losses) const {
    const at::Tensor scale =
        scale_K.to(w_NK_.scalar_type()).to(w_NK_.device(), at::kFloat).contiguous();
    const at::Tensor inverse = scale_K.reciprocal().to(w_NK_.device(), compute_);
    const at::Tensor candidate =
        run_.format(linear_).codec->candidate(w_NK_, scale, 1.0f, &run_.pool).to(compute_);
    for_each_batch([&](size_t position, const at::Tensor& x) {
      const at::Tensor difference =
          (at::linear(x * inverse, candidate) - outputs_[position]).to(at::kFloat);
      losses[position] = (difference * difference).mean().item<float>();
    });
  }

 private:
  template <typename Body>
  void for_each_batch(const Body& body) const {
    for_each_captured(run_, inputs_, linear_, body);
  }

  const StageRun& run_;
  const CapturedInputs& inputs_;
  size_t linear_;
  at::Tensor w_NK_;
  at::ScalarType compute_;
  std::vector<at::Tensor> outputs_;
};

size_t first_minimum(const float* losses, size_t count) {
  size_t best = count;
  for (size_t k = 0; k < count; ++k) {
    if (!std::isfinite(losses[k])) continue;
    if (best == count || losses[k] < losses[best]) best = k;
  }
  return best;
}

}  // namespace

bool awq_fits(const LinearFormat& format) {
  const std::string kind = format.codec->name();
  return kind.starts_with("int4") || kind.starts_with("nvfp4");
}

void choose_awq_scales(const StageRun& run, const AlgorithmSpec& spec, const CapturedInputs& inputs,
                       Choices& choices) {
  const std::vector<float> alphas = alphas_of(spec);
  std::vector<size_t> linears;
  for (size_t i = 0; i < run.plan.linears.size(); ++i) {
    if (run.format(i).quantized() && awq_fits(run.format(i)) &&
        run.statistics.mean_abs[i].defined()) {
      linears.push_back(i);
    }
  }
  const auto width = static_cast<int64_t>(linears.size() * alphas.size());
  if (width == 0) return;
  // [position][linear, alpha]
  std::vector<std::vector<float>> losses(inputs.batches.size(),
                                         std::vector<float>(static_cast<size_t>(width), 0.0f));
  std::vector<float> of_batch(inputs.batches.size());
  for (size_t l = 0; l < linears.size(); ++l) {
    const Search search(run, inputs, linears[l]);
    const at::Tensor share =
        weight_share(run.weight(linears[l]), run.format(linears[l]).codec->block());
    for (size_t k = 0; k < alphas.size(); ++k) {
      std::fill(of_batch.begin(), of_batch.end(), 0.0f);
      search.run(scale_of(run.statistics.mean_abs[linears[l]], share, alphas[k]), of_batch);
      for (size_t b = 0; b < of_batch.size(); ++b) losses[b][l * alphas.size() + k] = of_batch[b];
    }
  }
  BatchOrderedSums sums(width, inputs.total_batches, run.ranks);
  for (size_t b = 0; b < losses.size(); ++b) sums.set(inputs.batches[b], losses[b]);
  const std::vector<double> total = sums.reduce(run.ranks);
  for (size_t l = 0; l < linears.size(); ++l) {
    at::Tensor of_linear = at::empty({static_cast<int64_t>(alphas.size())}, at::kFloat);
    auto* values = of_linear.mutable_data_ptr<float>();
    for (size_t k = 0; k < alphas.size(); ++k) {
      values[k] = static_cast<float>(total[l * alphas.size() + k]);
    }
    const size_t best = first_minimum(values, alphas.size());
    auto& choice = choices[linears[l]];
    choice[kLosses] = of_linear;
    // No finite loss: no choice, and the linear stays as it is.
    choice[kAlpha] = at::scalar_tensor(best < alphas.size() ? alphas[best] : -1.0f, at::kFloat);
  }
}

void apply_awq_scales(const StageRun& run, const Choices& choices, StageSolution& solution) {
  for (size_t i = 0; i < solution.linears.size(); ++i) {
    const Smoothing smoothing = run.format(i).smoothing;
    if (smoothing != Smoothing::kAwq && smoothing != Smoothing::kSvdQuant) continue;
    LinearSolution& linear = solution.linears[i];
    const auto alpha = choices[i].find(kAlpha);
    if (alpha == choices[i].end() || !run.statistics.mean_abs[i].defined()) {
      leave_unsmoothed(run, i, "no token reached it", linear);
      continue;
    }
    const auto chosen = alpha->second.item<float>();
    const at::Tensor& act = run.statistics.mean_abs[i];
    const at::Tensor share = weight_share(run.weight(i), run.format(i).codec->block());
    if (chosen < 0.0f || !finite(act) || !finite(share)) {
      leave_unsmoothed(run, i, "no finite loss", linear);
      continue;
    }
    linear.record["awq_alpha"] = std::round(1000.0 * chosen) / 1000.0;
    smooth(run, i, scale_of(act, share, chosen).reciprocal(), linear);
  }
}

Algorithm awq_lite_algorithm() {
  Algorithm algorithm;
  algorithm.name = "awq_lite";
  algorithm.smoothing = Smoothing::kAwq;
  algorithm.needs_mean_abs = true;
  algorithm.needs_inputs = true;
  algorithm.fits = &awq_fits;
  algorithm.fits_text = "INT4 and NVFP4 weights";
  algorithm.choose = [](const StageRun& run, const AlgorithmSpec& spec,
                        const CapturedInputs& inputs, const StageSolution& /*solution*/,
                        Choices& choices) { choose_awq_scales(run, spec, inputs, choices); };
  algorithm.apply = [](const StageRun& run, const AlgorithmSpec& /*spec*/, const Choices& choices,
                       StageSolution& solution) { apply_awq_scales(run, choices, solution); };
  return algorithm;
}

}  // namespace halftone
