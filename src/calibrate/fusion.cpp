#include "calibrate/fusion.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "calibrate/experts.h"
#include "calibrate/low_rank.h"
#include "calibrate/smoothing_plan.h"
#include "core/error.h"
#include "core/log.h"
#include "dist/partition.h"
#include "dist/reductions.h"
#include "formats/tensor_bridge.h"
#include "kernels/amax.h"

namespace halftone {
namespace {

// Rows of the linear before take over the scale of this one's input (3.3.4).
void fold_into_previous(const StageRun& run, StageSolution& solution) {
  for (size_t i = 0; i < solution.linears.size(); ++i) {
    if (run.format(i).pre_quant_scale != PreQuantScale::kInPrevious) continue;
    LinearSolution& linear = solution.linears[i];
    const auto previous = static_cast<size_t>(run.stage.linears[i].previous);
    const at::Tensor scale = linear.pre_quant_scale_K.to(at::kFloat);
    solution.linears[previous].edits.push_back({WeightEdit::Kind::kScaleRows, scale, {}});
    const std::string& bias = run.stage.linears[previous].bias;
    if (!bias.empty()) {
      const at::Tensor b = run.tensor(bias);
      solution.tensors[bias] =
          (b.to(at::kFloat) * scale.to(b.device())).to(scalar_type_of(run.model_dtype));
    }
    linear.pre_quant_scale_K.reset();
  }
}

// Fused groups, and what else shares its scales where the layout asks for it: queries of cross
// attention, which read another tensor than the keys and values that TensorRT-LLM keeps with them.
std::vector<std::vector<size_t>> merged_groups(const StageRun& run) {
  auto groups = quantized_groups(run.stage, run.plan);
  if (!run.recipe.fused_scales) return groups;
  groups.emplace_back();
  for (size_t i = 0; i < run.stage.linears.size(); ++i) {
    const bool cross = run.stage.linears[i].trtllm == "cross_attention.qkv";
    if (cross && run.format(i).quantized()) groups.back().push_back(i);
  }
  return groups;
}

void resmooth_groups(const StageRun& run, StageSolution& solution) {
  for (const std::vector<size_t>& members : merged_groups(run)) {
    if (members.size() < 2 || run.format(members.front()).smoothing == Smoothing::kNone) continue;
    std::vector<at::Tensor> scales;
    for (const size_t i : members) scales.push_back(solution.linears[i].pre_quant_scale_K);
    const at::Tensor mean = mean_scale(scales, run.numerics);
    for (const size_t i : members) resmooth(solution.linears[i], mean);
  }
}

// A norm whose output only this group reads carries the group's scale (3.3.3, step 4).
void fold_into_norms(const StageRun& run, StageSolution& solution) {
  const auto groups = quantized_groups(run.stage, run.plan);
  const at::ScalarType dtype = scalar_type_of(run.model_dtype);
  for (const NormSite& norm : run.stage.norms) {
    const std::vector<size_t>& members = groups[static_cast<size_t>(norm.fused_group)];
    if (members.empty() || run.format(members.front()).pre_quant_scale != PreQuantScale::kInNorm) {
      continue;
    }
    const at::Tensor weight = run.tensor(norm.weight).to(dtype);
    const at::Tensor scale =
        solution.linears[members.front()].pre_quant_scale_K.to(weight.device(), dtype);
    // Every step is rounded to T, as the reference's are.
    solution.tensors[norm.weight] = norm.adds_one ? (weight + 1) * scale - 1 : weight * scale;
    if (!norm.bias.empty()) solution.tensors[norm.bias] = run.tensor(norm.bias).to(dtype) * scale;
    for (const size_t i : members) solution.linears[i].pre_quant_scale_K.reset();
  }
}

bool uses_tensor_amax(const StageRun& run, size_t i) {
  const LinearSite& linear = run.stage.linears[i];
  return run.format(i).quantized() && run.format(i).codec->uses_tensor_amax(linear.out, linear.in);
}

// The amaxes of edited weights; each is computed by one rank.
void find_weight_amaxes(const StageRun& run, StageSolution& solution) {
  std::vector<size_t> edited;
  std::vector<int64_t> costs;
  for (size_t i = 0; i < solution.linears.size(); ++i) {
    if (!uses_tensor_amax(run, i)) continue;
    if (solution.linears[i].edits.empty() || solution.linears[i].keeps_amax) continue;
    edited.push_back(i);
    costs.push_back(run.stage.linears[i].out * run.stage.linears[i].in);
  }
  if (edited.empty()) return;
  const std::vector<int> rank_of = deal_by_cost(costs, run.ranks.size());
  std::vector<float> amax(edited.size(), MaxBucket::kAbsent);
  for (size_t e = 0; e < edited.size(); ++e) {
    if (rank_of[e] != run.ranks.rank()) continue;
    const at::Tensor w = edited_weight(solution.linears[edited[e]], run.weight(edited[e]));
    const Amax found = amax_of_tensor(context_of(w, &run.pool), matrix_of(w));
    if (!found.finite) {
      throw InputError(concat("'", run.stage.linears[edited[e]].name, ".weight' overflows ",
                              name_of(run.model_dtype),
                              " when it is smoothed: use a format without smoothing"));
    }
    amax[e] = found.value;
  }
  MaxBucket bucket;
  bucket.add(amax);
  bucket.reduce(run.ranks);
  // A clipped amax is a share of what the weight's was.
  for (size_t e = 0; e < edited.size(); ++e) {
    solution.linears[edited[e]].weight_amax = amax[e];
  }
}

void unify_amaxes(const StageRun& run, StageSolution& solution) {
  for (const std::vector<size_t>& members : merged_groups(run)) {
    if (members.size() < 2) continue;
    const LinearSite& first = run.stage.linears[members.front()];
    const Codec& codec = *run.format(members.front()).codec;
    // Gate and up of one expert share their amax in every format (3.4).
    const bool shared = codec.unifies_groups() || first.expert >= 0 || run.recipe.fused_scales;
    float weight = 0.0f;
    float input = 0.0f;
    bool all_scalars = true;
    for (const size_t i : members) {
      all_scalars = all_scalars && uses_tensor_amax(run, i);
      weight = std::max(weight, solution.linears[i].weight_amax);
      input = std::max(input, solution.linears[i].input_amax.value_or(0.0f));
    }
    for (const size_t i : members) {
      if (shared && all_scalars) solution.linears[i].weight_amax = weight;
      if (solution.linears[i].input_amax) solution.linears[i].input_amax = input;
    }
  }
}

// Clipping of a format with one amax for the weight.
void clip_weight_amaxes(StageSolution& solution) {
  for (LinearSolution& linear : solution.linears) {
    if (linear.tensor_clip_ratio != 1.0f) linear.weight_amax *= linear.tensor_clip_ratio;
  }
}

}  // namespace

at::Tensor mean_scale(const std::vector<at::Tensor>& scales, Numerics numerics) {
  at::Tensor sum = scales.front().to(at::kFloat);
  for (size_t i = 1; i < scales.size(); ++i) sum = sum + scales[i].to(at::kFloat);
  const auto count = static_cast<float>(scales.size());
  const at::Tensor mean = numerics == Numerics::kCpu ? sum / count : sum * (1.0f / count);
  return mean.to(scales.front().scalar_type());
}

void resmooth(LinearSolution& linear, const at::Tensor& scale_K) {
  if (at::equal(linear.pre_quant_scale_K, scale_K)) return;
  linear.edits.push_back({WeightEdit::Kind::kResmoothColumns,
                          linear.pre_quant_scale_K.to(at::kFloat), scale_K.to(at::kFloat)});
  linear.pre_quant_scale_K = scale_K;
}

void fuse(const StageRun& run, StageSolution& solution) {
  fold_into_previous(run, solution);
  average_expert_scales(run, solution);
  resmooth_groups(run, solution);
  add_low_rank_branches(run, solution);
  find_weight_amaxes(run, solution);
  clip_weight_amaxes(solution);
  share_expert_inputs(run, solution);
  share_expert_weights(run, solution);
  unify_amaxes(run, solution);
  fold_into_norms(run, solution);
}

}  // namespace halftone
