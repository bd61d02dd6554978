#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/files.h"
#include "core/json.h"
#include "formats/quantizer.h"

namespace halftone {

// One entry of quant_cfg. Later rules override earlier ones; a rule with stages replaces all
// attributes, one without only switches.
struct QuantizerRule {
  std::string pattern;
  std::string parent_class;  // empty: any
  std::optional<std::vector<Quantizer>> stages;
  std::optional<bool> enable;
};

struct AlgorithmSpec {
  std::string method;
  Json options = Json::object();
  int line = 0;
};
double option(const AlgorithmSpec& spec, const std::string& name);

// What is quantized and how: a preset, a preset with a KV cache, or a user's file
// (calibration.md, 13.1).
struct Recipe {
  std::string name;    // the canonical short name, e.g. "nvfp4"
  std::string preset;  // Model Optimizer's name of it
  std::string description;
  enum class Propagate : uint8_t { kOriginal, kQuantized };
  std::vector<AlgorithmSpec> algorithms{{"max", Json::object(), 0}};
  Propagate propagate = Propagate::kOriginal;
  std::vector<QuantizerRule> rules;

  // The quantizer of this name ("model.layers.0.mlp.up_proj.weight_quantizer") whose owner is of
  // this class ("nn.Linear", "attention").
  QuantizerSequence resolve(const std::string& quantizer_name,
                            const std::string& parent_class) const;
  LinearQuantizers linear(const std::string& module) const;
  // "k" or "v" of an attention module.
  QuantizerSequence kv(const std::string& attention, char which) const;
};

// All rules in order, as stored beside a result.
Json to_json(const Recipe& recipe);

// Unknown keys, wrong types, import cycles and missing imports are UsageErrors with `source` and
// line. Imports are looked up among the embedded files, then beside `directory`.
Recipe parse_recipe(std::string_view yaml, const std::string& source, const fs::path& directory);
Recipe load_recipe_file(const fs::path& path);

// Presets by their canonical or Model Optimizer's name; an unknown one is a UsageError that
// suggests the nearest. kind: "ptq" or "kv_cache".
Recipe load_preset(const std::string& name, const std::string& kind);
std::vector<Recipe> all_presets(const std::string& kind);

// The KV cache's rules go behind all others. "none" adds nothing.
void add_kv_cache(Recipe& recipe, const std::string& kv_cache);

}  // namespace halftone
