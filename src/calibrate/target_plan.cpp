#include "calibrate/target_plan.h"

#include <algorithm>
#include <map>

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
    if (plan.codecs[i] != plan.codecs[first]) {
      throw UsageError(concat("the recipe gives '", stage.linears[first].name, "' and '",
                              stage.linears[i].name,
                              "' different formats, but engines merge them: give both the same"));
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
  const std::string* quantized = nullptr;
  const std::string* plain = nullptr;
  for (size_t s = 0; s < stages.size(); ++s) {
    for (size_t i = 0; i < stages[s].kv.size(); ++i) {
      const std::string*& first = stages[s].kv[i] == KvFormat::kNone ? plain : quantized;
      if (first == nullptr) first = &model.stages()[s].attentions[i].name;
    }
  }
  if (quantized != nullptr && plain != nullptr) {
    throw UsageError(concat("the recipe quantizes the KV cache of '", *quantized, "' but not of '",
                            *plain, "': engines know one format for all layers"));
  }
}

}  // namespace

bool StagePlan::needs_inputs() const {
  return std::find(input_quantized.begin(), input_quantized.end(), true) != input_quantized.end();
}

bool StagePlan::needs_key_value() const {
  return std::any_of(kv.begin(), kv.end(), has_scales);
}

TargetPlan plan_target(const Model& model, const Recipe& recipe) {
  TargetPlan target{recipe, {}};
  bool any_weight = false;
  bool any_kv = false;
  for (const StageSpec& stage : model.stages()) {
    StagePlan plan;
    for (const LinearSite& linear : stage.linears) {
      const LinearQuantizers quantizers = recipe.linear(linear.name);
      const Codec* codec = codec_for(quantizers, linear.name);
      if (codec != nullptr) {
        check_tied(stage, linear);
        codec->check_shape(linear.name, linear.out, linear.in);
      }
      any_weight = any_weight || codec != nullptr;
      plan.codecs.push_back(codec);
      plan.input_quantized.push_back(codec != nullptr && quantizers.input.enabled());
    }
    for (const AttentionSite& attention : stage.attentions) {
      const QuantizerSequence key = recipe.kv(attention.name, 'k');
      const KvFormat format = kv_format_of(key, attention.name);
      if (kv_format_of(recipe.kv(attention.name, 'v'), attention.name) != format) {
        throw UsageError(
            concat("the recipe gives keys and values of '", attention.name, "' different formats"));
      }
      any_kv = any_kv || format != KvFormat::kNone;
      plan.kv.push_back(format);
    }
    check_fused_groups(stage, plan);
    target.stages.push_back(std::move(plan));
  }
  check_cache_formats(model, target.stages);
  if (!any_weight && (asks_for_weights(recipe) || !any_kv)) {
    throw UsageError(concat("the recipe '", recipe.name,
                            "' quantizes no linear of this model: check its patterns"));
  }
  return target;
}

}  // namespace halftone
