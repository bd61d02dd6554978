#include "engine/stage_solver.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "engine/quantized_linears.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

std::vector<float> weight_amaxes(const StageSpec& stage, const StagePlan& plan,
                                 const CalibratedStage& seen, DType model_dtype) {
  std::vector<float> amaxes;
  for (size_t i = 0; i < stage.linears.size(); ++i) {
    const std::string& weight = stage.linears[i].weight;
    const float amax = seen.tensor_amax.at(weight);
    amaxes.push_back(round_to(amax, model_dtype));
    if (plan.linears[i].quantized() && !std::isfinite(amaxes.back())) {
      throw InputError(concat("'", weight, "' holds ", amax, ", which is infinite in ",
                              name_of(model_dtype), ", the model's dtype"));
    }
  }
  return amaxes;
}

// What the algorithms of a recipe need of a stage that has linears for them.
ObserveOptions needs_of(const Recipe& recipe, const StagePlan& plan) {
  ObserveOptions needs{plan.needs_inputs(), false, false, plan.needs_key_value(), false, false};
  for (const KvFormat format : plan.kv) {
    needs.rotated_keys = needs.rotated_keys || rotates_keys(format);
  }
  for (const AlgorithmSpec& spec : recipe.algorithms) {
    const Algorithm& algorithm = algorithm_named(spec.method);
    for (const LinearFormat& format : plan.linears) {
      if (!algorithm.works_on(format)) continue;
      needs.mean_abs = needs.mean_abs || algorithm.needs_mean_abs;
      needs.capture = needs.capture || algorithm.needs_inputs;
    }
  }
  return needs;
}

bool is_below_floor(const StageSpec& stage, const StageStatistics& statistics, size_t linear,
                    int64_t floor) {
  return stage.linears[linear].expert >= 0 && statistics.tokens[linear] < floor;
}

// What few tokens showed of an expert is as good as nothing; its input's amax stays, since that of
// all experts is the largest anyway.
void forget_below_floor(const StageSpec& stage, int64_t floor, StageStatistics& statistics,
                        CapturedInputs& inputs) {
  const StageStatistics unseen = unseen_statistics(stage);
  for (size_t i = 0; i < stage.linears.size(); ++i) {
    if (!is_below_floor(stage, statistics, i, floor)) continue;
    statistics.channel_amax[i] = unseen.channel_amax[i];
    statistics.mean_abs[i].reset();
    for (std::vector<at::Tensor>& of_batch : inputs.inputs) {
      if (!of_batch.empty()) of_batch[i].reset();
    }
  }
}

void record_below_floor(const StageSpec& stage, const StageStatistics& statistics, int64_t floor,
                        StageSolution& solution) {
  for (size_t i = 0; i < stage.linears.size(); ++i) {
    Json& record = solution.linears[i].record;
    if (!is_below_floor(stage, statistics, i, floor) || record.contains("fallback")) continue;
    record["fallback"] = concat(statistics.tokens[i], " tokens reached this expert, fewer than ",
                                floor, ": what was seen of its inputs is left out");
  }
}

}  // namespace

StageSolution solve_calibrated(const StageSpec& stage, const StagePlan& plan, const Recipe& recipe,
                               const CalibratedStage& seen, const SolveContext& context,
                               Choices& choices) {
  const std::vector<float> weight_amax = weight_amaxes(stage, plan, seen, context.model_dtype);
  const at::ScalarType dtype = scalar_type_of(context.model_dtype);
  // Below a floor of one there is nothing to forget.
  const bool forgets = context.expert_floor > 1 && stage.experts > 0;
  StageStatistics statistics = seen.statistics;
  CapturedInputs inputs;
  if (forgets) {
    if (seen.inputs != nullptr) inputs = *seen.inputs;
    forget_below_floor(stage, context.expert_floor, statistics, inputs);
  }
  const StageRun run{stage,
                     plan,
                     recipe,
                     statistics,
                     weight_amax,
                     [&](const std::string& name) { return seen.loaded.tensor(name).to(dtype); },
                     context.model_dtype,
                     context.compute_dtype,
                     context.numerics,
                     context.cluster.control,
                     context.cluster.pool,
                     [&](const std::string& name) { return seen.loaded.block_exponents(name); }};
  const CapturedInputs* captured = seen.inputs != nullptr && forgets ? &inputs : seen.inputs;
  StageSolution solution = solve_stage(run, captured, choices);
  if (forgets) record_below_floor(stage, statistics, context.expert_floor, solution);
  return solution;
}

StageWeights served_weights(const StageSpec& stage, const StagePlan& plan,
                            const StageSolution& solution, const LoadedStage& loaded,
                            const std::vector<StoredTensor>& tensors, at::ScalarType dtype,
                            const SolveContext& context) {
  const std::map<std::string, size_t> linear_of = quantized_linears(stage, plan);
  StageWeights weights;
  for (const StoredTensor& stored : tensors) {
    const auto linear = linear_of.find(stored.name);
    const auto changed = solution.tensors.find(stored.name);
    const at::Tensor source =
        changed == solution.tensors.end() ? loaded.tensor(stored.name) : changed->second;
    if (linear == linear_of.end()) {
      const at::Tensor placed = source.to(context.cluster.device);
      weights.set(stored.name, stored.keeps_dtype ? placed : placed.to(dtype));
      continue;
    }
    const LinearFormat& format = plan.linears[linear->second];
    const LinearSolution& solved = solution.linears[linear->second];
    const at::Tensor w_NK = edited_weight(solved, source.to(scalar_type_of(context.model_dtype)));
    const PackedLinear packed =
        pack_linear(format, solved, w_NK, context.numerics, &context.cluster.pool);
    weights.set(stored.name, format.codec->unpack(packed, dtype, &context.cluster.pool));
  }
  return weights;
}

std::vector<ObserveOptions> what_to_observe(const Model& model,
                                            const std::vector<const TargetPlan*>& plans,
                                            bool complete) {
  std::vector<ObserveOptions> observe(model.stages().size(), ObserveOptions::nothing());
  size_t computed = 0;
  for (const TargetPlan* plan : plans) {
    for (size_t s = 0; s < observe.size(); ++s) {
      observe[s].add(needs_of(plan->recipe, plan->stages[s]));
      if (observe[s].any()) computed = std::max(computed, s + 1);
    }
  }
  for (size_t s = 0; complete && s < computed; ++s) {
    observe[s].inputs = true;
    observe[s].key_value = true;
  }
  return observe;
}

}  // namespace halftone
