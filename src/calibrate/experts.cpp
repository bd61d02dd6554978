#include "calibrate/experts.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>

#include "calibrate/fusion.h"
#include "core/log.h"

namespace halftone {
namespace {

// What the reference assumes of a layer that no token reached.
constexpr float kUnseenInputAmax = 0.5f;

// The quantized linears of each projection of the routed experts, in list order.
std::map<std::string, std::vector<size_t>> experts_by_role(const StageRun& run) {
  std::map<std::string, std::vector<size_t>> roles;
  for (size_t i = 0; i < run.stage.linears.size(); ++i) {
    const LinearSite& linear = run.stage.linears[i];
    if (linear.expert >= 0 && run.format(i).quantized()) roles[linear.role].push_back(i);
  }
  return roles;
}

}  // namespace

void average_expert_scales(const StageRun& run, StageSolution& solution) {
  if (!run.stage.averages_expert_scales) return;
  for (const auto& [role, members] : experts_by_role(run)) {
    const Smoothing smoothing = run.format(members.front()).smoothing;
    if (smoothing != Smoothing::kAwq && smoothing != Smoothing::kSvdQuant) continue;
    // A scale that was folded into the linear before is gone.
    if (run.format(members.front()).pre_quant_scale == PreQuantScale::kInPrevious) continue;
    std::vector<at::Tensor> scales;
    for (const size_t i : members) scales.push_back(solution.linears[i].pre_quant_scale_K);
    const at::Tensor mean = mean_scale(scales, run.numerics);
    for (const size_t i : members) resmooth(solution.linears[i], mean);
  }
}

void share_expert_inputs(const StageRun& run, StageSolution& solution) {
  for (const auto& [role, members] : experts_by_role(run)) {
    if (!run.format(members.front()).input.has_scale()) continue;
    float amax = 0.0f;
    for (const size_t i : members) {
      amax = std::max(amax, solution.linears[i].input_amax.value_or(0.0f));
    }
    const bool seen = amax > 0.0f;
    for (const size_t i : members) {
      LinearSolution& linear = solution.linears[i];
      if (!linear.input_amax) {
        linear.record["fallback"] = seen ? "no token reached this expert: the input scale is its "
                                           "peers'"
                                         : "no token reached this layer's experts: input amax 0.5";
      }
      linear.input_amax = seen ? amax : kUnseenInputAmax;
      linear.input_dtype = run.compute_dtype;
    }
  }
}

void share_expert_weights(const StageRun& run, StageSolution& solution) {
  const auto& steps = run.recipe.algorithms;
  const bool asked = std::any_of(steps.begin(), steps.end(), [](const AlgorithmSpec& spec) {
    return spec.method == "max" && flag_option(spec, "sync_expert_weight_amax");
  });
  for (const auto& [role, members] : experts_by_role(run)) {
    if (!asked && run.stage.linears[members.front()].stacked.empty()) continue;
    float amax = 0.0f;
    for (const size_t i : members) amax = std::max(amax, solution.linears[i].weight_amax);
    for (const size_t i : members) solution.linears[i].weight_amax = amax;
  }
}

Json expert_coverage(const StageSpec& stage, const StageStatistics& statistics, int64_t floor) {
  std::map<int, int64_t> tokens;
  for (size_t i = 0; i < stage.linears.size(); ++i) {
    if (stage.linears[i].expert < 0) continue;
    int64_t& of_expert = tokens[stage.linears[i].expert];
    of_expert = std::max(of_expert, statistics.tokens[i]);
  }
  if (tokens.empty()) return nullptr;
  Json coverage;
  int64_t sum = 0;
  int64_t least = INT64_MAX;
  int64_t most = 0;
  Json without = Json::array();
  Json below = Json::array();
  Json counts = Json::array();
  for (const auto& [expert, count] : tokens) {
    sum += count;
    least = std::min(least, count);
    most = std::max(most, count);
    counts.push_back(count);
    if (count == 0) without.push_back(expert);
    if (count < floor) below.push_back(expert);
  }
  return {{"experts", tokens.size()},
          {"tokens", counts},
          {"min_tokens", least},
          {"max_tokens", most},
          {"mean_tokens", static_cast<double>(sum) / static_cast<double>(tokens.size())},
          {"without_tokens", without},
          {"floor", floor},
          {"below_floor", below}};
}

}  // namespace halftone
