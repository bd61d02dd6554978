#include "formats/recipe.h"

#include "core/log.h"
#include "formats/recipe_quantizer.h"

namespace halftone {
namespace {

constexpr const char* kEmbedding = "nn.Embedding";

// "experts.up_proj_weight_quantizers.7" as "experts.up_proj_weight_quantizer"; "" for other names.
std::string without_expert(const std::string& name) {
  const size_t dot = name.rfind('.');
  if (dot == std::string::npos || dot + 1 == name.size()) return "";
  const bool digits = name.find_first_not_of("0123456789", dot + 1) == std::string::npos;
  const std::string_view stem = std::string_view(name).substr(0, dot);
  if (!digits || !stem.ends_with("weight_quantizers")) return "";
  return name.substr(0, dot - 1);
}

}  // namespace

bool QuantizerRule::matches(const std::string& quantizer_name,
                            const std::string& owner_class) const {
  if (!parent_class.empty() && parent_class != owner_class) return false;
  if (glob_matches(pattern, quantizer_name)) return true;
  const std::string singular = without_expert(quantizer_name);
  return !singular.empty() && glob_matches(pattern, singular);
}

bool QuantizerRule::only_disables() const {
  if (enable) return !*enable;
  return !QuantizerSequence{*stages}.enabled();
}

QuantizerSequence Recipe::resolve(const std::string& quantizer_name,
                                  const std::string& parent_class) const {
  QuantizerSequence sequence;
  for (const QuantizerRule& rule : rules) {
    if (!rule.matches(quantizer_name, parent_class)) continue;
    if (parent_class == kEmbedding && rule.parent_class.empty() && !rule.only_disables()) continue;
    if (rule.stages) sequence.stages = *rule.stages;
    if (rule.enable) {
      for (Quantizer& stage : sequence.stages) stage.enable = *rule.enable;
    }
  }
  return sequence;
}

LinearQuantizers Recipe::linear(const std::string& module) const {
  return {resolve(module + ".weight_quantizer", "nn.Linear"),
          resolve(module + ".input_quantizer", "nn.Linear")};
}

QuantizerSequence Recipe::kv(const std::string& attention, char which) const {
  return resolve(concat(attention, ".", which, "_bmm_quantizer"), "attention");
}

Json to_json(const Recipe& recipe) {
  Json algorithms = Json::array();
  for (const AlgorithmSpec& spec : recipe.algorithms) algorithms.push_back(to_json(spec));
  Json rules = Json::array();
  for (const QuantizerRule& rule : recipe.rules) {
    Json entry{{"quantizer_name", rule.pattern}};
    if (!rule.parent_class.empty()) entry["parent_class"] = rule.parent_class;
    if (rule.stages && rule.stages->size() == 1) entry["cfg"] = to_json(rule.stages->front());
    if (rule.stages && rule.stages->size() > 1) {
      for (const Quantizer& stage : *rule.stages) entry["cfg"].push_back(to_json(stage));
    }
    if (rule.enable) entry["enable"] = *rule.enable;
    rules.push_back(entry);
  }
  if (algorithms.empty()) algorithms = nullptr;
  if (algorithms.size() == 1) algorithms = Json(algorithms.front());
  const bool quantized = recipe.propagate == Recipe::Propagate::kQuantized;
  Json json{{"name", recipe.name},
            {"preset", recipe.preset},
            {"algorithm", algorithms},
            {"propagate", quantized ? "quantized" : "original"},
            {"quant_cfg", rules}};
  if (recipe.fused_scales) json["fused_scales"] = true;
  if (recipe.folded_smoothing) json["folded_smoothing"] = true;
  return json;
}

}  // namespace halftone
