// GPTQ (Frantar et al. 2022; calibration.md, 5.9): columns are rounded one after the other, each
// error made good in the columns that follow.
#include <ATen/ATen.h>

#include <cmath>

#include "calibrate/algorithm.h"
#include "calibrate/algorithms/gptq_solver.h"
#include "calibrate/broadcast.h"
#include "core/error.h"
#include "core/log.h"
#include "dist/partition.h"
#include "dist/reductions.h"
#include "formats/codecs.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

constexpr const char* kWeight = "gptq_weight";
constexpr const char* kError = "gptq_error";
constexpr const char* kDamping = "gptq_damping";

bool fits(const LinearFormat& format) {
  const std::string kind = format.codec->name();
  return kind == "int8" || (kind.starts_with("int4") && format.input.kind == InputKind::kNone) ||
         frozen_nvfp4(*format.codec).has_value();
}

// The group's weights share their amax (formats-and-hf-export.md, 2.10).
float tensor_amax(const StageRun& run, size_t i) {
  float amax = run.weight_amax[i];
  const int group = run.stage.linears[i].fused_group;
  for (size_t k = 0; group >= 0 && k < run.stage.linears.size(); ++k) {
    if (run.stage.linears[k].fused_group == group) amax = std::max(amax, run.weight_amax[k]);
  }
  return amax;
}

// The steps of every element's scale: F32 [out, blocks], and the grid on which codes lie.
GptqGrid grid_of(const StageRun& run, size_t i, const at::Tensor& w_NK) {
  const Codec& codec = *run.format(i).codec;
  const int64_t block = codec.block() > 0 ? codec.block() : w_NK.size(1);
  const at::Tensor amax = block_amax_of(w_NK, block, &run.pool);
  // Packing a weight of ones with these amaxes shows the step of each block.
  const PackedLinear packed =
      codec.pack(w_NK, {tensor_amax(run, i), amax}, run.numerics, &run.pool);
  GptqGrid grid;
  grid.block = block;
  if (frozen_nvfp4(codec)) {
    grid.kind = GptqGrid::Kind::kE2M1;
    grid.step_NB = packed.at("weight_scale").view(at::kFloat8_e4m3fn).to(at::kFloat) *
                   packed.at("weight_scale_2").to(w_NK.device());
  } else {
    grid.kind = codec.block() > 0 ? GptqGrid::Kind::kInt4 : GptqGrid::Kind::kInt8;
    grid.step_NB = packed.at("weight_scale").to(w_NK.device()).view({w_NK.size(0), -1});
  }
  return grid;
}

// sum of 2/n X^T X over all batches in batch order, on the rank `owner`; undefined elsewhere. The
// other ranks send their inputs, which are smaller than their Hessians.
at::Tensor gather_hessian(const StageRun& run, const CapturedInputs& inputs, size_t i, int owner,
                          const std::optional<float>& input_amax) {
  const int64_t in = run.stage.linears[i].in;
  const at::ScalarType compute = scalar_type_of(run.compute_dtype);
  at::Tensor hessian;
  if (owner == run.ranks.rank()) {
    hessian = at::zeros({in, in}, run.weight(i).options().dtype(at::kFloat));
  }
  for (int64_t batch = 0; batch < inputs.total_batches; ++batch) {
    const auto root = static_cast<int>(batch % run.ranks.size());
    const bool mine = root == run.ranks.rank();
    at::Tensor x =
        mine ? inputs.inputs[static_cast<size_t>(batch / run.ranks.size())][i] : at::Tensor();
    int64_t tokens = x.defined() ? x.size(0) : 0;
    run.ranks.broadcast(&tokens, sizeof tokens, root);
    if (tokens == 0) continue;
    if (run.ranks.size() > 1 && root != owner) {
      at::Tensor buffer = mine ? x.cpu().contiguous() : at::empty({tokens, in}, compute);
      broadcast_tensor(run.ranks, buffer, root);
      x = buffer;
    }
    if (!hessian.defined()) continue;
    x = fake_quantize_input(run.format(i).input.kind, x.to(hessian.device()),
                            input_amax.value_or(0.0f))
            .to(at::kFloat);
    hessian += at::mm(x.t(), x);
  }
  if (!hessian.defined()) return hessian;
  return hessian * (2.0 / static_cast<double>(std::max<int64_t>(1, run.statistics.tokens[i])));
}

void choose(const StageRun& run, const AlgorithmSpec& spec, const CapturedInputs& inputs,
            const StageSolution& solution, Choices& choices) {
  std::vector<size_t> linears;
  std::vector<int64_t> costs;
  for (size_t i = 0; i < solution.linears.size(); ++i) {
    if (!run.format(i).quantized() || !fits(run.format(i))) continue;
    linears.push_back(i);
    const LinearSite& linear = run.stage.linears[i];
    costs.push_back(linear.in * linear.in * (linear.in + linear.out) / 1024 + 1);
  }
  const std::vector<int> rank_of = deal_by_cost(costs, run.ranks.size());
  GptqOptions options;
  options.damping = option(spec, "perc_damp");
  options.block = integer_option(spec, "block_size");
  options.activation_order = flag_option(spec, "act_order");
  for (size_t l = 0; l < linears.size(); ++l) {
    const size_t i = linears[l];
    const LinearSite& linear = run.stage.linears[i];
    const at::Tensor hessian =
        gather_hessian(run, inputs, i, rank_of[l], solution.linears[i].input_amax);
    at::Tensor weight = at::empty({linear.out, linear.in}, scalar_type_of(run.model_dtype));
    at::Tensor report = at::empty({2}, at::kFloat);
    if (hessian.defined()) {
      const at::Tensor w = run.weight(i);
      const GptqResult result = solve_gptq(w, hessian, grid_of(run, i, w), options);
      weight.copy_(result.w_NK);
      report.copy_(at::stack({at::scalar_tensor(result.relative_error, at::kFloat),
                              at::scalar_tensor(result.damping, at::kFloat)}));
    }
    broadcast_tensor(run.ranks, weight, rank_of[l]);
    broadcast_tensor(run.ranks, report, rank_of[l]);
    choices[i][kWeight] = weight;
    choices[i][kError] = report[0];
    choices[i][kDamping] = report[1];
  }
}

void apply(const StageRun& run, const AlgorithmSpec& /*spec*/, const Choices& choices,
           StageSolution& solution) {
  for (size_t i = 0; i < solution.linears.size(); ++i) {
    if (!run.format(i).quantized() || !fits(run.format(i))) continue;
    const auto weight = choices[i].find(kWeight);
    if (weight == choices[i].end()) {
      throw InputError(concat("the calibration store holds no weights of GPTQ for '",
                              run.stage.linears[i].name, "': run halftone quantize instead"));
    }
    LinearSolution& linear = solution.linears[i];
    // Codes follow from the scales that the errors were computed with.
    const int64_t block = run.format(i).codec->block();
    linear.block_amax.kind = BlockAmaxRule::Kind::kFixed;
    linear.block_amax.amax =
        block_amax_of(run.weight(i), block > 0 ? block : run.stage.linears[i].in, &run.pool).cpu();
    linear.edits.push_back({WeightEdit::Kind::kReplace, weight->second, {}});
    linear.keeps_amax = true;
    linear.record["gptq_relative_error"] = choices[i].at(kError).item<float>();
    const auto damping = choices[i].at(kDamping).item<float>();
    linear.record["gptq_damping"] = damping;
    if (damping < 0.0f) {
      linear.record["fallback"] = "its Hessian is not positive definite: rounded to nearest";
    }
  }
}

}  // namespace

Algorithm gptq_algorithm() {
  Algorithm algorithm;
  algorithm.name = "gptq";
  algorithm.needs_inputs = true;
  algorithm.fits = &fits;
  algorithm.fits_text = "INT8, INT4 weight-only and static NVFP4 weights";
  algorithm.choose = &choose;
  algorithm.apply = &apply;
  return algorithm;
}

}  // namespace halftone
