#include "calibrate/smoothing_plan.h"

#include <map>

#include "calibrate/algorithm.h"

namespace halftone {
namespace {

// The reference folds only where the format's name says AWQ.
bool folds(const LinearFormat& format, const Recipe& recipe) {
  return format.smoothing == Smoothing::kAwq ||
         (recipe.folded_smoothing && format.smoothing == Smoothing::kSmoothQuant);
}

bool folds_into_previous(const LinearFormat& format, const Recipe& recipe) {
  if (!folds(format, recipe)) return false;
  return recipe.folded_smoothing || format.codec->name().starts_with("nvfp4");
}

void fold_into_previous(const StageSpec& stage, const Recipe& recipe, StagePlan& plan) {
  for (size_t i = 0; i < stage.linears.size(); ++i) {
    const LinearSite& linear = stage.linears[i];
    if (linear.previous < 0 || !folds_into_previous(plan.linears[i], recipe)) continue;
    const auto previous = static_cast<size_t>(linear.previous);
    // Heads that share values have fewer rows than the linear behind them has columns.
    if (stage.linears[previous].out != linear.in) continue;
    if (!same_format(plan.linears[previous], plan.linears[i])) continue;
    plan.linears[i].pre_quant_scale = PreQuantScale::kInPrevious;
  }
}

void fold_into_norms(const StageSpec& stage, const Recipe& recipe, StagePlan& plan) {
  const auto groups = quantized_groups(stage, plan);
  for (const NormSite& norm : stage.norms) {
    const auto& members = groups[static_cast<size_t>(norm.fused_group)];
    const size_t least = recipe.folded_smoothing ? 1 : 2;
    if (members.size() < least || !folds(plan.linears[members.front()], recipe)) continue;
    for (const size_t i : members) plan.linears[i].pre_quant_scale = PreQuantScale::kInNorm;
  }
}

void leave_unsmoothed(StagePlan& plan) {
  for (LinearFormat& format : plan.linears) {
    if (format.pre_quant_scale != PreQuantScale::kStored) continue;
    if (format.smoothing == Smoothing::kSvdQuant) continue;  // no other layout than the unified one
    format.smoothing = Smoothing::kNone;
    format.pre_quant_scale = PreQuantScale::kNone;
  }
}

}  // namespace

void plan_smoothing(const StageSpec& stage, const Recipe& recipe, StagePlan& plan) {
  for (const AlgorithmSpec& spec : recipe.algorithms) {
    const Algorithm& algorithm = algorithm_named(spec.method);
    if (algorithm.smoothing == Smoothing::kNone) continue;
    for (size_t i = 0; i < plan.linears.size(); ++i) {
      LinearFormat& format = plan.linears[i];
      if (!algorithm.works_on(format)) continue;
      // The runtime has one vector for the inputs of all experts of a layer; SmoothQuant has one
      // for each, and the reference leaves experts alone.
      const bool expert = stage.linears[i].expert >= 0;
      if (expert && algorithm.smoothing == Smoothing::kSmoothQuant) continue;
      if (algorithm.smoothing == Smoothing::kSvdQuant) {
        format.low_rank = low_rank_of(spec, stage.linears[i]);
        if (format.low_rank == 0) continue;
      }
      format.smoothing = algorithm.smoothing;
      format.pre_quant_scale = PreQuantScale::kStored;
    }
  }
  fold_into_previous(stage, recipe, plan);
  fold_into_norms(stage, recipe, plan);
  if (recipe.folded_smoothing) leave_unsmoothed(plan);
}

std::vector<std::vector<size_t>> quantized_groups(const StageSpec& stage, const StagePlan& plan) {
  int count = 0;
  for (const LinearSite& linear : stage.linears) count = std::max(count, linear.fused_group + 1);
  for (const NormSite& norm : stage.norms) count = std::max(count, norm.fused_group + 1);
  std::vector<std::vector<size_t>> groups(static_cast<size_t>(count));
  for (size_t i = 0; i < stage.linears.size(); ++i) {
    const int group = stage.linears[i].fused_group;
    if (group >= 0 && plan.linears[i].quantized()) groups[static_cast<size_t>(group)].push_back(i);
  }
  return groups;
}

}  // namespace halftone
