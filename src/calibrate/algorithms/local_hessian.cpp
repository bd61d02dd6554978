// NVFP4 block scales by least output error (calibration.md, 5.3): each block's squared error is
// weighed by the second moments of its 16 inputs. The reference's second pass carries the noise of
// quantized inputs and is not shared among ranks; this is one pass over plain inputs, summed over
// all ranks in batch order.
#include <ATen/ATen.h>

#include "calibrate/algorithms/awq.h"
#include "calibrate/algorithms/weight_search.h"
#include "dist/reductions.h"
#include "formats/codecs.h"

namespace halftone {
namespace {

constexpr const char* kHessian = "block_hessian";
constexpr int64_t kBlock = 16;

bool fits(const LinearFormat& format) {
  return frozen_nvfp4(*format.codec).has_value() && format.codec->block() == kBlock;
}

void choose(const StageRun& run, const AlgorithmSpec& /*spec*/, const CapturedInputs& inputs,
            const StageSolution& solution, Choices& choices) {
  for (size_t i = 0; i < solution.linears.size(); ++i) {
    if (!run.format(i).quantized() || !fits(run.format(i)) || run.statistics.tokens[i] == 0) {
      continue;
    }
    const int64_t in = run.stage.linears[i].in;
    const int64_t width = in * kBlock;
    std::vector<std::vector<float>> of_batch(inputs.batches.size(),
                                             std::vector<float>(static_cast<size_t>(width), 0.0f));
    for_each_captured(run, inputs, i, [&](size_t position, const at::Tensor& x_TK) {
      const at::Tensor x_BTG =
          x_TK.to(at::kFloat).view({x_TK.size(0), in / kBlock, kBlock}).transpose(0, 1);
      const at::Tensor products = at::bmm(x_BTG.transpose(1, 2), x_BTG).cpu().contiguous();
      std::copy_n(products.const_data_ptr<float>(), width, of_batch[position].begin());
    });
    BatchOrderedSums sums(width, inputs.total_batches, run.ranks);
    for (size_t b = 0; b < of_batch.size(); ++b) sums.set(inputs.batches[b], of_batch[b]);
    const std::vector<double> total = sums.reduce(run.ranks);
    at::Tensor hessian = at::empty({in / kBlock, kBlock, kBlock}, at::kFloat);
    auto* values = hessian.mutable_data_ptr<float>();
    const auto tokens = static_cast<double>(run.statistics.tokens[i]);
    for (int64_t k = 0; k < width; ++k) {
      values[k] = static_cast<float>(total[static_cast<size_t>(k)] / tokens);
    }
    choices[i][kHessian] = hessian;
  }
}

void apply(const StageRun& run, const AlgorithmSpec& spec, const Choices& choices,
           StageSolution& solution) {
  // Without the weighing this is mse, which is also what a linear without tokens gets; the sweep
  // over E4M3 values is the default here.
  AlgorithmSpec search = spec;
  if (!search.options.contains("fp8_scale_sweep")) search.options["fp8_scale_sweep"] = true;
  mse_algorithm().apply(run, search, choices, solution);
  for (size_t i = 0; i < solution.linears.size(); ++i) {
    if (!run.format(i).quantized() || !fits(run.format(i))) continue;
    const auto hessian = choices[i].find(kHessian);
    if (hessian == choices[i].end() || !at::isfinite(hessian->second).all().item<bool>()) {
      solution.linears[i].record["fallback"] = "no second moments: least squared error instead";
      continue;
    }
    solution.linears[i].block_amax.hessian_B1616 = hessian->second;
  }
}

}  // namespace

Algorithm local_hessian_algorithm() {
  Algorithm algorithm;
  algorithm.name = "local_hessian";
  algorithm.needs_inputs = true;
  algorithm.fits = &fits;
  algorithm.fits_text = "static NVFP4 weights";
  algorithm.choose = &choose;
  algorithm.apply = &apply;
  return algorithm;
}

}  // namespace halftone
