#include "calibrate/target_plan.h"

#include <algorithm>
#include <map>

#include "calibrate/algorithm.h"
#include "calibrate/quantizer_names.h"
#include "calibrate/smoothing_plan.h"
#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

bool asks_for_weights(const Recipe& recipe) {
  return std::any_of(recipe.rules.begin(), recipe.rules.end(), [](const QuantizerRule& rule) {
    return rule.stages && rule.pattern.find("weight_quantizer") != std::string::npos;
  });
}

void check_fused_groups(const StageSpec& stage, const StagePlan& plan) {
  std::map<int, size_t> first_of;
  for (size_t i = 0; i < stage.linears.size(); ++i) {
    const int group = stage.linears[i].fused_group;
    if (group < 0) continue;
    const size_t first = first_of.emplace(group, i).first->second;
    if (!same_format(plan.linears[i], plan.linears[first])) {
      throw UsageError(concat("the recipe gives '", stage.linears[first].name, "' and '",
                              stage.linears[i].name,
                              "' different formats, but engines merge them: give both the same"));
    }
  }
}

// The runtime quantizes the inputs of all experts alike.
void check_experts(const StageSpec& stage, const StagePlan& plan) {
  std::map<std::string, size_t> first_of;
  for (size_t i = 0; i < stage.linears.size(); ++i) {
    if (stage.linears[i].expert < 0) continue;
    const size_t first = first_of.emplace(stage.linears[i].role, i).first->second;
    if (!same_format(plan.linears[i], plan.linears[first])) {
      throw UsageError(concat("the recipe gives '", stage.linears[first].name, "' and '",
                              stage.linears[i].name,
                              "' different formats, but the experts of a layer share one"));
    }
  }
}

void check_tied(const StageSpec& stage, const LinearSite& linear) {
  if (stage.kind == StageKind::kHead && linear.weight != linear.name + ".weight") {
    throw UsageError(concat("the recipe quantizes '", linear.name, "', whose weight is tied to '",
                            linear.weight, "': disable '", linear.name, ".*' in the recipe"));
  }
}

// config.json gives one cache format for all layers.
void check_cache_formats(const Model& model, const std::vector<StagePlan>& stages) {
  const AttentionSite* first = nullptr;
  KvFormat format = KvFormat::kNone;
  for (size_t s = 0; s < stages.size(); ++s) {
    for (size_t i = 0; i < stages[s].kv.size(); ++i) {
      const AttentionSite& attention = model.stages()[s].attentions[i];
      if (first == nullptr) {
        first = &attention;
        format = stages[s].kv[i];
      }
      if (stages[s].kv[i] == format) continue;
      throw UsageError(concat("the recipe gives the KV caches of '", first->name, "' and '",
                              attention.name,
                              "' different formats: engines know one for all layers"));
    }
  }
}

void check_cache(const AttentionSite& attention, KvFormat format) {
  const bool power_of_two = (attention.key_dim & (attention.key_dim - 1)) == 0;
  if (!rotates_keys(format) || power_of_two) return;
  throw InputError(concat("'", attention.name, "' has keys of ", attention.key_dim,
                          " channels: nvfp4_rotate needs a power of two; choose another "
                          "--kv-cache"));
}

// Without an algorithm nothing is calibrated: scales that would be are found at run time, where
// engines can (calibration.md, 14, 6).
void leave_uncalibrated(const LinearSite& linear, const Recipe& recipe, LinearFormat& format) {
  if (!recipe.algorithms.empty() || !format.input.needs_amax()) return;
  if (format.input.kind != InputKind::kFp8) {
    throw UsageError(concat("the recipe '", recipe.name, "' has no algorithm, but the input of '",
                            linear.name, "' needs calibration: set algorithm: max"));
  }
  format.input.kind = InputKind::kFp8Dynamic;
}

// An algorithm that no linear goes with contradicts the recipe's formats.
void check_algorithms(const Recipe& recipe, const std::vector<StagePlan>& stages) {
  for (const AlgorithmSpec& spec : recipe.algorithms) {
    const Algorithm& algorithm = algorithm_named(spec.method);
    if (algorithm.fits == nullptr) continue;
    const bool fits = std::any_of(stages.begin(), stages.end(), [&](const StagePlan& stage) {
      return std::any_of(stage.linears.begin(), stage.linears.end(), [&](const LinearFormat& one) {
        return one.quantized() && algorithm.fits(one);
      });
    });
    if (fits) continue;
    throw UsageError(concat("the recipe '", recipe.name, "' uses the algorithm ", spec.method,
                            ", which works on ", algorithm.fits_text,
                            ", but it quantizes nothing so: change the algorithm or the format"));
  }
}

LinearFormat plan_linear(const StageSpec& stage, const LinearSite& linear, const Recipe& recipe) {
  const LinearQuantizers quantizers = recipe.linear(linear.name);
  LinearFormat format;
  if (!quantizers.weight.enabled()) return format;
  format.input = input_format_of(quantizers.input, linear.name);
  leave_uncalibrated(linear, recipe, format);
  format.codec = codec_for(quantizers.weight, format.input, linear.name);
  check_tied(stage, linear);
  format.codec->check_shape(linear.name, linear.out, linear.in);
  return format;
}

}  // namespace

bool StagePlan::needs_inputs() const {
  return std::any_of(linears.begin(), linears.end(), [](const LinearFormat& format) {
    return format.quantized() &&
           (format.input.needs_amax() || format.smoothing != Smoothing::kNone);
  });
}

bool StagePlan::needs_key_value() const {
  return std::any_of(kv.begin(), kv.end(), has_scales);
}

bool StagePlan::any_quantized() const {
  return std::any_of(linears.begin(), linears.end(),
                     [](const LinearFormat& format) { return format.quantized(); });
}

TargetPlan plan_target(const Model& model, const Recipe& recipe) {
  TargetPlan target{recipe, {}};
  bool any_weight = false;
  bool any_kv = false;
  for (const StageSpec& stage : model.stages()) {
    StagePlan plan;
    for (const LinearSite& linear : stage.linears) {
      plan.linears.push_back(plan_linear(stage, linear, recipe));
    }
    for (const AttentionSite& attention : stage.attentions) {
      plan.kv.push_back(kv_format_of(recipe.kv(attention.name, 'k'), recipe.kv(attention.name, 'v'),
                                     attention.name));
      check_cache(attention, plan.kv.back());
      any_kv = any_kv || plan.kv.back() != KvFormat::kNone;
    }
    any_weight = any_weight || plan.any_quantized();
    plan_smoothing(stage, recipe, plan);
    check_fused_groups(stage, plan);
    check_experts(stage, plan);
    target.stages.push_back(std::move(plan));
  }
  check_cache_formats(model, target.stages);
  refuse_other_quantizers(model, recipe);
  if (!any_weight && (asks_for_weights(recipe) || !any_kv)) {
    throw UsageError(concat("the recipe '", recipe.name,
                            "' quantizes no linear of this model: check its patterns"));
  }
  if (any_weight) check_algorithms(recipe, target.stages);
  return target;
}

}  // namespace halftone
