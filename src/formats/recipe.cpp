#include "formats/recipe.h"

#include <algorithm>
#include <map>

#include "core/embedded.h"
#include "core/error.h"
#include "core/log.h"
#include "core/text_distance.h"
#include "formats/recipe_yaml.h"

namespace halftone {
namespace {

constexpr const char* kFolder = "formats/";
constexpr const char* kKvPrefix = "kv_";

// The presets' files in name order; a KV cache's begin with "kv_".
std::vector<EmbeddedFile> preset_files(const std::string& kind) {
  std::vector<EmbeddedFile> files;
  for (const EmbeddedFile& file : embedded_files()) {
    if (!file.name.starts_with(kFolder)) continue;
    const bool kv = file.name.substr(std::string_view(kFolder).size()).starts_with(kKvPrefix);
    if (kv == (kind == "kv_cache")) files.push_back(file);
  }
  return files;
}

Recipe parse_preset(const EmbeddedFile& file) {
  Recipe recipe = parse_recipe(file.content, "preset " + std::string(file.name), {});
  std::string stem = fs::path(file.name).stem().string();
  recipe.name = stem.starts_with(kKvPrefix) ? stem.substr(3) : stem;
  return recipe;
}

Json to_json(const NumberFormat& format) {
  if (format.exponent_bits == 0) return format.bits;
  return concat("e", format.exponent_bits, "m", format.bits);
}

Json to_json(const Quantizer& quantizer) {
  Json json;
  json["enable"] = quantizer.enable;
  json["num_bits"] = to_json(quantizer.num_bits);
  if (quantizer.axis) json["axis"] = *quantizer.axis;
  if (quantizer.block_sizes) {
    const BlockSizes& sizes = *quantizer.block_sizes;
    Json blocks{{"-1", sizes.last}};
    if (sizes.second_last > 0) blocks["-2"] = sizes.second_last;
    blocks["type"] = sizes.dynamic ? "dynamic" : "static";
    if (sizes.scale_bits) blocks["scale_bits"] = to_json(*sizes.scale_bits);
    json["block_sizes"] = blocks;
  }
  if (quantizer.dynamic) json["type"] = "dynamic";
  if (quantizer.use_constant_amax) json["use_constant_amax"] = true;
  if (quantizer.constant_amax) json["constant_amax"] = *quantizer.constant_amax;
  return json;
}

}  // namespace

QuantizerSequence Recipe::resolve(const std::string& quantizer_name,
                                  const std::string& parent_class) const {
  QuantizerSequence sequence;
  for (const QuantizerRule& rule : rules) {
    if (!rule.parent_class.empty() && rule.parent_class != parent_class) continue;
    if (!glob_matches(rule.pattern, quantizer_name)) continue;
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
  return {
      {"name", recipe.name},
      {"preset", recipe.preset},
      {"algorithm", recipe.algorithms.empty() ? Json(nullptr) : Json(recipe.algorithms[0].method)},
      {"quant_cfg", rules}};
}

Recipe parse_recipe(std::string_view yaml, const std::string& source, const fs::path& directory) {
  return RecipeReader(source, directory).read(yaml);
}

Recipe load_recipe_file(const fs::path& path) {
  Recipe recipe = parse_recipe(read_text_file(path), path.string(), path.parent_path());
  recipe.name = path.stem().string();
  return recipe;
}

std::vector<Recipe> all_presets(const std::string& kind) {
  std::vector<Recipe> presets;
  for (const EmbeddedFile& file : preset_files(kind)) presets.push_back(parse_preset(file));
  return presets;
}

Recipe load_preset(const std::string& name, const std::string& kind) {
  std::vector<std::string> known;
  for (Recipe& preset : all_presets(kind)) {
    if (preset.name == name || preset.preset == name) return std::move(preset);
    known.push_back(preset.name);
    if (preset.preset != preset.name) known.push_back(preset.preset);
  }
  std::string list;
  for (const std::string& one : known) list += (list.empty() ? "" : ", ") + one;
  const char* what = kind == "kv_cache" ? "KV cache format" : "format";
  throw UsageError(
      concat("unknown ", what, " '", name, "'", nearest_hint(name, known), "; supported: ", list));
}

double option(const AlgorithmSpec& spec, const std::string& name) {
  static const std::map<std::string, double> defaults{{"alpha", 1.0},
                                                      {"alpha_step", 0.1},
                                                      {"max_co_batch_size", 1024},
                                                      {"max_tokens_per_batch", 64},
                                                      {"min_clip_ratio", 0.5},
                                                      {"shrink_step", 0.05},
                                                      {"lowrank", 32},
                                                      {"perc_damp", 0.01},
                                                      {"block_size", 128},
                                                      {"act_order", 0},
                                                      {"fp8_scale_sweep", 0},
                                                      {"start_multiplier", 0.25},
                                                      {"stop_multiplier", 4.0},
                                                      {"step_size", 0.1},
                                                      {"anchor_percentile", 1.0},
                                                      {"upper_percentile", 99.99},
                                                      {"rho", 16384}};
  const auto found = spec.options.find(name);
  if (found != spec.options.end())
    return found->is_boolean() ? (found->get<bool>() ? 1.0 : 0.0) : found->get<double>();
  return defaults.at(name);
}

void add_kv_cache(Recipe& recipe, const std::string& kv_cache) {
  if (kv_cache == "none") return;
  const Recipe kv = load_preset(kv_cache, "kv_cache");
  recipe.rules.insert(recipe.rules.end(), kv.rules.begin(), kv.rules.end());
}

}  // namespace halftone
