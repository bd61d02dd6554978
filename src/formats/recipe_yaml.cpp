#include "formats/recipe_yaml.h"

#include "core/log.h"
#include "core/text_distance.h"
#include "formats/recipe_algorithm.h"
#include "formats/recipe_quantizer.h"

namespace halftone {
namespace {

constexpr size_t kMaxRules = 10'000;
constexpr size_t kMaxPatternLength = 512;

std::string read_pattern(const YamlValue& value, std::string text) {
  if (text.empty()) value.fail("a pattern must not be empty");
  if (text.size() > kMaxPatternLength) {
    value.fail(concat("a pattern of more than ", kMaxPatternLength, " characters"));
  }
  return text;
}

QuantizerRule rule_at(const YamlPlace& place) {
  QuantizerRule rule;
  rule.source = place.source->name;
  rule.line = place.line;
  rule.built_in = place.source->built_in;
  return rule;
}

void add_rule(std::vector<QuantizerRule>& rules, QuantizerRule rule, const YamlPlace& place) {
  if (rules.size() >= kMaxRules) place.fail(concat("more than ", kMaxRules, " rules"));
  rules.push_back(std::move(rule));
}

QuantizerRule read_rule(const YamlValue& entry) {
  entry.only_keys({"quantizer_name", "parent_class", "cfg", "enable"});
  const YamlValue* name = entry.find("quantizer_name");
  if (name == nullptr) entry.fail("a rule needs quantizer_name");
  QuantizerRule rule = rule_at(entry.place);
  rule.pattern = read_pattern(*name, name->as<std::string>("a pattern"));
  const YamlValue* parent = entry.find("parent_class");
  if (parent != nullptr && !parent->is_null()) {
    rule.parent_class = parent->as<std::string>("a class name");
  }
  if (const YamlValue* enable = entry.find("enable")) {
    rule.enable = enable->as<bool>("true or false");
  }
  const YamlValue* cfg = entry.find("cfg");
  // An empty cfg beside `enable: false` says nothing.
  const bool off = rule.enable.has_value() && !*rule.enable;
  const bool says_nothing =
      cfg == nullptr || cfg->is_null() ||
      (off && !cfg->is_scalar() && cfg->items.empty() && cfg->entries.empty());
  if (!says_nothing) rule.stages = read_quantizers(*cfg);
  if (!rule.stages && !rule.enable) entry.fail("a rule needs cfg or enable");
  return rule;
}

// An entry of the older shape, {pattern: attributes}: `enable` alone only switches.
QuantizerRule read_old_rule(const YamlEntry& entry, const std::string& parent_class) {
  QuantizerRule rule = rule_at(entry.place);
  rule.pattern = read_pattern(entry.value, entry.key == "default" ? "*" : entry.key);
  rule.parent_class = parent_class;
  YamlValue attributes = entry.value;
  if (const YamlValue* enable = attributes.find("enable")) {
    rule.enable = enable->as<bool>("true or false");
    std::erase_if(attributes.entries, [](const YamlEntry& one) { return one.key == "enable"; });
    if (attributes.entries.empty()) return rule;
  }
  rule.stages = read_quantizers(attributes);
  return rule;
}

std::vector<QuantizerRule> read_old_rules(const YamlValue& map) {
  std::vector<QuantizerRule> rules;
  for (const YamlEntry& entry : map.entries) {
    if (!entry.key.starts_with("nn.")) {
      add_rule(rules, read_old_rule(entry, ""), entry.place);
      continue;
    }
    if (!entry.value.is_map()) entry.value.fail("expected a mapping of patterns");
    for (const YamlEntry& inner : entry.value.entries) {
      add_rule(rules, read_old_rule(inner, entry.key), inner.place);
    }
  }
  return rules;
}

std::vector<QuantizerRule> read_rules(const YamlValue& value) {
  if (value.is_map()) return read_old_rules(value);
  if (!value.is_list()) value.fail("quant_cfg must be a list of rules");
  std::vector<QuantizerRule> rules;
  for (const YamlValue& entry : value.items) add_rule(rules, read_rule(entry), entry.place);
  return rules;
}

Recipe::Propagate read_propagate(const YamlValue& value) {
  const auto text = value.as<std::string>("original or quantized");
  if (text == "original") return Recipe::Propagate::kOriginal;
  if (text == "quantized") return Recipe::Propagate::kQuantized;
  value.fail("expected original or quantized");
}

void check_type(const YamlValue& value) {
  const auto type = value.as<std::string>("a type of recipe");
  if (type == "ptq" || type == "kv_cache") return;
  if (type == "auto_quantize") {
    value.fail("an auto_quantize recipe is for another command, halftone autoquantize");
  }
  value.fail(concat("recipe_type '", type, "' is not supported",
                    nearest_hint(type, {"ptq", "auto_quantize"}), "; supported: ptq"));
}

std::vector<std::string> read_names(const YamlValue& value) {
  if (!value.is_list()) value.fail("expected a list of names");
  std::vector<std::string> names;
  for (const YamlValue& item : value.items) names.push_back(item.as<std::string>("a name"));
  return names;
}

void read_metadata(const YamlValue& metadata, Recipe& recipe) {
  metadata.only_keys({"recipe_type", "preset", "aliases", "description"});
  if (const YamlValue* type = metadata.find("recipe_type")) check_type(*type);
  if (const YamlValue* preset = metadata.find("preset")) {
    recipe.preset = preset->as<std::string>("a name");
  }
  if (const YamlValue* aliases = metadata.find("aliases")) recipe.aliases = read_names(*aliases);
  const YamlValue* description = metadata.find("description");
  if (description != nullptr && !description->is_null()) {
    recipe.description = description->as<std::string>("a text");
  }
}

void read_quantize(const YamlValue& section, Recipe& recipe) {
  section.only_keys({"algorithm", "quant_cfg", "effective_bits", "propagate"});
  const YamlValue* rules = section.find("quant_cfg");
  if (rules == nullptr) section.fail("quant_cfg is missing");
  recipe.rules = read_rules(*rules);
  if (const YamlValue* algorithm = section.find("algorithm")) {
    recipe.algorithms = read_algorithms(*algorithm);
  }
  // What AutoQuantize is to assume of the costs; nothing here depends on it.
  const YamlValue* bits = section.find("effective_bits");
  if (bits != nullptr && !bits->is_null()) bits->as<double>("a number of bits");
  const YamlValue* propagate = section.find("propagate");
  recipe.propagate =
      propagate == nullptr ? default_propagate(recipe.algorithms) : read_propagate(*propagate);
}

// A file of a folder may name its section or be it.
const YamlValue& section_of(const YamlValue& file, const char* name) {
  const YamlValue* section = file.find(name);
  return section != nullptr && file.entries.size() == 1 ? *section : file;
}

}  // namespace

Recipe read_recipe(const YamlValue& root) {
  if (!root.is_map()) root.fail("expected a mapping");
  Recipe recipe;
  const YamlValue* metadata = root.find("metadata");
  if (metadata != nullptr && !metadata->is_null()) read_metadata(*metadata, recipe);
  if (const YamlValue* other = root.find("auto_quantize")) {
    other->fail("an auto_quantize recipe is for another command, halftone autoquantize");
  }
  root.only_keys({"imports", "metadata", "quantize"});
  const YamlValue* quantize = root.find("quantize");
  if (quantize == nullptr) root.fail("the section 'quantize' is missing");
  read_quantize(*quantize, recipe);
  return recipe;
}

Recipe read_recipe(const YamlValue& metadata, const YamlValue& quantize) {
  Recipe recipe;
  read_metadata(section_of(metadata, "metadata"), recipe);
  read_quantize(section_of(quantize, "quantize"), recipe);
  return recipe;
}

}  // namespace halftone
