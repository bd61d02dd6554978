#include "engine/stage_solver.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"
#include "core/log.h"
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

}  // namespace

StageSolution solve_calibrated(const StageSpec& stage, const StagePlan& plan, const Recipe& recipe,
                               const CalibratedStage& seen, const SolveContext& context,
                               Choices& choices) {
  const std::vector<float> weight_amax = weight_amaxes(stage, plan, seen, context.model_dtype);
  const at::ScalarType dtype = scalar_type_of(context.model_dtype);
  const StageRun run{stage,
                     plan,
                     recipe,
                     seen.statistics,
                     weight_amax,
                     [&](const std::string& name) { return seen.loaded.tensor(name).to(dtype); },
                     context.model_dtype,
                     context.compute_dtype,
                     context.numerics,
                     context.cluster.control,
                     context.cluster.pool};
  return solve_stage(run, seen.inputs, choices);
}

StageWeights served_weights(const StageSpec& stage, const StagePlan& plan,
                            const StageSolution& solution, const LoadedStage& loaded,
                            at::ScalarType dtype, const SolveContext& context) {
  StageWeights weights = weights_of(loaded, dtype);
  for (const auto& [name, tensor] : solution.tensors) {
    weights.set(name, tensor.to(context.cluster.device, dtype));
  }
  for (size_t i = 0; i < stage.linears.size(); ++i) {
    const LinearFormat& format = plan.linears[i];
    if (!format.quantized()) continue;
    const at::Tensor w_NK = edited_weight(
        solution.linears[i],
        loaded.tensor(stage.linears[i].weight).to(scalar_type_of(context.model_dtype)));
    const PackedLinear packed =
        pack_linear(format, solution.linears[i], w_NK, context.numerics, &context.cluster.pool);
    weights.set(stage.linears[i].weight,
                format.codec->unpack(packed, dtype, &context.cluster.pool));
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
