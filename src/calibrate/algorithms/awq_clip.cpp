// AWQ's clipping (calibration.md, 5.7): shrinks the amax of a block, or of the whole weight where
// the format has one, to where the output loses least.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "calibrate/algorithms/awq.h"
#include "dist/reductions.h"
#include "formats/codecs.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

constexpr const char* kRatio = "awq_clip_ratio";

// min_clip_ratio, + shrink_step, ... below 1, and 1; rounded to two digits.
std::vector<float> ratios_of(const AlgorithmSpec& spec) {
  const double step = option(spec, "shrink_step");
  const double smallest = option(spec, "min_clip_ratio");
  std::vector<float> ratios;
  for (int64_t i = 0; smallest + static_cast<double>(i) * step < 1.0 - 1e-9; ++i) {
    ratios.push_back(
        static_cast<float>(std::round(100.0 * (smallest + static_cast<double>(i) * step)) / 100.0));
  }
  ratios.push_back(1.0f);
  return ratios;
}

bool clips_blocks(const LinearFormat& format) {
  return format.codec->name().starts_with("int4");
}

at::Tensor smoothed_input(const LinearSolution& linear, const at::Tensor& x_TK) {
  if (!linear.pre_quant_scale_K.defined()) return x_TK;
  return x_TK * linear.pre_quant_scale_K.to(x_TK.device(), x_TK.scalar_type());
}

// The mean over tokens of the squared change of each block's share of the output: F32 [out,
// blocks]. Rows in pieces, so that memory stays small.
at::Tensor block_losses(const at::Tensor& x_TK, const at::Tensor& change_NK, int64_t block,
                        int64_t rows_at_once) {
  const int64_t blocks = x_TK.size(1) / block;
  const at::Tensor x_BTG = x_TK.to(at::kFloat).view({x_TK.size(0), blocks, block}).transpose(0, 1);
  std::vector<at::Tensor> pieces;
  for (int64_t row = 0; row < change_NK.size(0); row += rows_at_once) {
    const at::Tensor change = change_NK.slice(0, row, row + rows_at_once);
    const at::Tensor change_BGN =
        change.reshape({change.size(0), blocks, block}).permute({1, 2, 0});
    pieces.push_back(at::bmm(x_BTG, change_BGN).square().mean(1).t());
  }
  return at::cat(pieces).contiguous();
}

// The losses of all ratios: F32 [ratios, numbers], summed over all batches.
at::Tensor losses_of(const StageRun& run, const AlgorithmSpec& spec, const CapturedInputs& inputs,
                     const LinearSolution& linear, size_t i, const std::vector<float>& ratios) {
  const at::Tensor w = edited_weight(linear, run.weight(i));
  const Codec& codec = *run.format(i).codec;
  const bool by_block = clips_blocks(run.format(i));
  const at::ScalarType compute = scalar_type_of(run.compute_dtype);
  const auto most_tokens = integer_option(spec, "max_tokens_per_batch");
  const auto rows_at_once = integer_option(spec, "max_co_batch_size");
  const int64_t numbers = by_block ? w.size(0) * (w.size(1) / codec.block()) : 1;
  const auto width = static_cast<int64_t>(ratios.size()) * numbers;
  std::vector<std::vector<float>> sums_of(inputs.batches.size(),
                                          std::vector<float>(static_cast<size_t>(width), 0.0f));
  for (size_t r = 0; r < ratios.size(); ++r) {
    const at::Tensor clipped = codec.candidate(w, {}, ratios[r], &run.pool);
    const at::Tensor change = clipped.to(at::kFloat) - w.to(at::kFloat);
    const at::Tensor plain_w = w.to(compute);
    const at::Tensor clipped_w = clipped.to(compute);
    for_each_captured(run, inputs, i, [&](size_t position, const at::Tensor& all_TK) {
      const at::Tensor x = smoothed_input(linear, all_TK);
      at::Tensor loss;
      if (by_block) {
        const int64_t stride = std::max<int64_t>(1, x.size(0) / most_tokens);
        loss = block_losses(x.slice(0, 0, x.size(0), stride), change, codec.block(), rows_at_once);
      } else {
        loss = (at::linear(x, clipped_w) - at::linear(x, plain_w)).to(at::kFloat).square().mean();
      }
      loss = loss.cpu().contiguous();
      std::copy_n(loss.const_data_ptr<float>(), numbers,
                  sums_of[position].begin() + static_cast<int64_t>(r) * numbers);
    });
  }
  BatchOrderedSums sums(width, inputs.total_batches, run.ranks);
  for (size_t b = 0; b < sums_of.size(); ++b) sums.set(inputs.batches[b], sums_of[b]);
  const std::vector<double> total = sums.reduce(run.ranks);
  at::Tensor losses = at::empty({static_cast<int64_t>(ratios.size()), numbers}, at::kFloat);
  std::copy(total.begin(), total.end(), losses.mutable_data_ptr<float>());
  return losses;
}

// The smallest ratio with the least loss; 1 where no loss is finite.
at::Tensor best_ratios(const at::Tensor& losses_RN, const std::vector<float>& ratios) {
  const int64_t numbers = losses_RN.size(1);
  at::Tensor best = at::empty({numbers}, at::kFloat);
  const float* losses = losses_RN.const_data_ptr<float>();
  auto* out = best.mutable_data_ptr<float>();
  for (int64_t n = 0; n < numbers; ++n) {
    float least = std::numeric_limits<float>::infinity();
    out[n] = 1.0f;
    for (size_t r = 0; r < ratios.size(); ++r) {
      const float loss = losses[static_cast<int64_t>(r) * numbers + n];
      if (!(loss < least)) continue;
      least = loss;
      out[n] = ratios[r];
    }
  }
  return best;
}

}  // namespace

void for_each_captured(const StageRun& run, const CapturedInputs& inputs, size_t linear,
                       const std::function<void(size_t, const at::Tensor&)>& body) {
  const auto one = [&](int64_t position) {
    const at::Tensor& x = inputs.inputs[static_cast<size_t>(position)][linear];
    if (x.defined() && x.size(0) > 0) body(static_cast<size_t>(position), x);
  };
  const auto count = static_cast<int64_t>(inputs.batches.size());
  const bool on_gpu = run.weight(linear).is_cuda();
  if (on_gpu) {
    for (int64_t position = 0; position < count; ++position) one(position);
  } else {
    run.pool.for_each(count, one);
  }
}

void choose_awq_clips(const StageRun& run, const AlgorithmSpec& spec, const CapturedInputs& inputs,
                      const StageSolution& solution, Choices& choices) {
  const std::vector<float> ratios = ratios_of(spec);
  for (size_t i = 0; i < solution.linears.size(); ++i) {
    if (!run.format(i).quantized() || !awq_fits(run.format(i)) || run.statistics.tokens[i] == 0) {
      continue;
    }
    const at::Tensor best =
        best_ratios(losses_of(run, spec, inputs, solution.linears[i], i, ratios), ratios);
    choices[i][kRatio] =
        clips_blocks(run.format(i)) ? best.view({run.stage.linears[i].out, -1}) : best.squeeze(0);
  }
}

void apply_awq_clips(const StageRun& run, const Choices& choices, StageSolution& solution) {
  for (size_t i = 0; i < solution.linears.size(); ++i) {
    if (!run.format(i).quantized() || !awq_fits(run.format(i))) continue;
    LinearSolution& linear = solution.linears[i];
    const auto ratio = choices[i].find(kRatio);
    if (ratio == choices[i].end()) {
      linear.record["fallback"] = "not clipped: no token reached it";
      continue;
    }
    if (clips_blocks(run.format(i))) {
      linear.block_amax.kind = BlockAmaxRule::Kind::kClip;
      linear.block_amax.clip_ratio = ratio->second;
      linear.record["awq_clip_mean"] = ratio->second.mean().item<float>();
    } else {
      linear.tensor_clip_ratio = ratio->second.item<float>();
      linear.record["awq_clip"] = std::round(100.0 * linear.tensor_clip_ratio) / 100.0;
    }
  }
}

Algorithm awq_clip_algorithm() {
  Algorithm algorithm;
  algorithm.name = "awq_clip";
  algorithm.needs_inputs = true;
  algorithm.fits = &awq_fits;
  algorithm.fits_text = "INT4 and NVFP4 weights";
  algorithm.choose = &choose_awq_clips;
  algorithm.apply = [](const StageRun& run, const AlgorithmSpec& /*spec*/, const Choices& choices,
                       StageSolution& solution) { apply_awq_clips(run, choices, solution); };
  return algorithm;
}

}  // namespace halftone
