#include "formats/recipe_yaml.h"

#include <algorithm>
#include <utility>

#include "core/embedded.h"
#include "core/error.h"
#include "core/log.h"
#include "core/text_distance.h"

namespace halftone {
namespace {

// Recipes and imports are at most this large.
constexpr size_t kMaxYamlBytes = 1 << 20;

std::string embedded_or_file(const std::string& path, const fs::path& directory) {
  for (const char* suffix : {"", ".yaml", ".yml"}) {
    const std::string_view text = embedded_file(path + suffix);
    if (!text.empty()) return std::string(text);
  }
  for (const char* suffix : {"", ".yaml", ".yml"}) {
    const fs::path file = directory / (path + suffix);
    if (fs::is_regular_file(file)) return read_text_file(file, kMaxYamlBytes);
  }
  return {};
}

}  // namespace

RecipeReader::RecipeReader(std::string source, fs::path directory)
    : source_(std::move(source)), directory_(std::move(directory)) {}

RecipeReader::InImport::InImport(RecipeReader& reader, std::string source)
    : reader_(reader), recipe_(std::exchange(reader.source_, std::move(source))) {}

RecipeReader::InImport::~InImport() {
  reader_.source_ = std::move(recipe_);
}

void RecipeReader::fail(const YAML::Node& node, const std::string& text) const {
  const YAML::Mark mark = node.Mark();
  throw UsageError(mark.is_null() ? concat(source_, ": ", text)
                                  : concat(source_, ", line ", mark.line + 1, ": ", text));
}

YAML::Node RecipeReader::parse(std::string_view yaml) const {
  if (yaml.size() > kMaxYamlBytes) {
    throw UsageError(concat(source_, ": larger than ", kMaxYamlBytes, " bytes"));
  }
  try {
    return YAML::Load(std::string(yaml));
  } catch (const YAML::Exception& error) {
    throw UsageError(
        concat(source_, ", line ", error.mark.line + 1, ": not valid YAML: ", error.msg));
  }
}

void RecipeReader::only_keys(const YAML::Node& map, const std::vector<std::string>& allowed) const {
  if (!map.IsMap()) fail(map, "expected a mapping");
  std::vector<std::string> seen;
  for (const auto& entry : map) {
    const auto key = entry.first.as<std::string>("");
    if (std::find(allowed.begin(), allowed.end(), key) == allowed.end()) {
      fail(entry.first, concat("unknown key '", key, "'", nearest_hint(key, allowed)));
    }
    if (std::find(seen.begin(), seen.end(), key) != seen.end()) {
      fail(entry.first, concat("the key '", key, "' appears twice"));
    }
    seen.push_back(key);
  }
}

template <typename T>
T RecipeReader::scalar(const YAML::Node& node, const char* what) const {
  try {
    if (node.IsScalar()) return node.as<T>();
  } catch (const YAML::Exception&) {
  }
  fail(node, concat("expected ", what));
}

void RecipeReader::read_imports(const YAML::Node& imports) {
  if (!imports) return;
  if (!imports.IsMap()) fail(imports, "imports: expected a mapping of aliases to paths");
  for (const auto& entry : imports) {
    const auto alias = scalar<std::string>(entry.first, "an alias");
    for (const Import& other : imports_) {
      if (other.alias == alias) fail(entry.first, concat("the key '", alias, "' appears twice"));
    }
    const auto path = scalar<std::string>(entry.second, "a path");
    const std::string text = embedded_or_file(path, directory_);
    if (text.empty()) fail(entry.second, concat("cannot find the import '", path, "'"));
    const std::string source = concat(source_, ", import '", path, "'");
    const InImport inside(*this, source);
    imports_.push_back({alias, source, parse(text)});
  }
}

const RecipeReader::Import& RecipeReader::imported(const YAML::Node& alias) const {
  const auto name = scalar<std::string>(alias, "the alias of an import");
  std::vector<std::string> known;
  for (const Import& import : imports_) {
    if (import.alias == name) return import;
    known.push_back(import.alias);
  }
  fail(alias, concat("no import is called '", name, "'", nearest_hint(name, known)));
}

template <typename Apply>
void RecipeReader::with_imports(const YAML::Node& map, std::vector<std::string> allowed,
                                const Apply& apply) {
  const auto apply_import = [&](const YAML::Node& alias) {
    const Import& import = imported(alias);
    const InImport inside(*this, import.source);
    only_keys(import.node, allowed);
    apply(import.node);
  };
  if (!map.IsMap()) fail(map, "expected a mapping");
  const YAML::Node aliases = map["$import"];
  if (aliases && aliases.IsSequence()) {
    for (const auto& alias : aliases) apply_import(alias);
  } else if (aliases) {
    apply_import(aliases);
  }
  allowed.push_back("$import");
  only_keys(map, allowed);
  apply(map);
}

NumberFormat RecipeReader::read_number_format(const YAML::Node& node) const {
  const auto text = scalar<std::string>(node, "a number of bits or e4m3, e2m1, e8m0");
  if (text == "e4m3") return kE4M3;
  if (text == "e2m1") return kE2M1;
  if (text == "e8m0") return kE8M0;
  if (text == "e3m2") return {3, 2};
  const auto bits = scalar<int>(node, "a number of bits or e4m3, e2m1, e8m0, e3m2");
  if (bits < 2 || bits > 16) fail(node, concat("num_bits must be 2 to 16, found ", bits));
  return {0, bits};
}

BlockSizes RecipeReader::read_block_sizes(const YAML::Node& node) const {
  only_keys(node, {"-1", "-2", "type", "scale_bits", "scale_block_sizes", "four_over_six"});
  BlockSizes sizes;
  if (const YAML::Node last = node["-1"]) {
    sizes.last = last.IsNull() ? kWholeAxis : scalar<int64_t>(last, "a block size or null");
  }
  if (node["-2"]) sizes.second_last = scalar<int64_t>(node["-2"], "a block size");
  if ((sizes.last < 1 && sizes.last != kWholeAxis) || sizes.second_last < 0)
    fail(node, "block sizes must be positive");
  if (node["type"]) sizes.dynamic = read_is_dynamic(node["type"]);
  if (node["scale_bits"]) sizes.scale_bits = read_number_format(node["scale_bits"]);
  return sizes;
}

bool RecipeReader::read_is_dynamic(const YAML::Node& type) const {
  const auto text = scalar<std::string>(type, "static or dynamic");
  if (text != "static" && text != "dynamic") fail(type, "expected static or dynamic");
  return text == "dynamic";
}

// null takes back what an import gave.
void RecipeReader::apply_attributes(const YAML::Node& map, Quantizer& quantizer) const {
  if (map["enable"]) quantizer.enable = scalar<bool>(map["enable"], "true or false");
  if (map["num_bits"]) quantizer.num_bits = read_number_format(map["num_bits"]);
  if (const YAML::Node axis = map["axis"]) {
    quantizer.axis.reset();
    if (!axis.IsNull()) quantizer.axis = scalar<int64_t>(axis, "an axis or null");
  }
  if (const YAML::Node sizes = map["block_sizes"]) {
    quantizer.block_sizes.reset();
    if (!sizes.IsNull()) {
      quantizer.block_sizes = read_block_sizes(sizes);
      if (const YAML::Node flag = sizes["four_over_six"]) {
        quantizer.four_over_six = scalar<bool>(flag, "true or false");
      }
      if (const YAML::Node scales = sizes["scale_block_sizes"]) {
        only_keys(scales, {"-1"});
        quantizer.scale_block = scalar<int64_t>(scales["-1"], "a block size");
      }
    }
  }
  if (map["type"]) quantizer.dynamic = read_is_dynamic(map["type"]);
  if (map["use_constant_amax"]) {
    quantizer.use_constant_amax = scalar<bool>(map["use_constant_amax"], "true or false");
  }
  if (const YAML::Node bias = map["bias"]) quantizer.bias = !bias.IsNull();
  if (map["rotate"]) quantizer.rotate = scalar<bool>(map["rotate"], "true or false");
  if (map["codebook"]) quantizer.codebook = scalar<std::string>(map["codebook"], "nf4");
  if (const YAML::Node amax = map["constant_amax"]) {
    quantizer.constant_amax.reset();
    if (!amax.IsNull()) quantizer.constant_amax = scalar<double>(amax, "a number");
  }
}

Quantizer RecipeReader::read_quantizer(const YAML::Node& attributes) {
  if (attributes.IsMap() && attributes.size() == 0) fail(attributes, "cfg must not be empty");
  Quantizer quantizer;
  quantizer.enable = true;
  with_imports(attributes,
               {"num_bits", "axis", "block_sizes", "type", "enable", "use_constant_amax",
                "constant_amax", "bias", "rotate", "codebook"},
               [&](const YAML::Node& map) { apply_attributes(map, quantizer); });
  if (quantizer.axis && quantizer.block_sizes) {
    fail(attributes, "axis and block_sizes exclude each other");
  }
  return quantizer;
}

std::vector<Quantizer> RecipeReader::read_stages(const YAML::Node& cfg) {
  if (!cfg.IsSequence()) return {read_quantizer(cfg)};
  if (cfg.size() == 0) fail(cfg, "cfg must not be empty");
  std::vector<Quantizer> stages;
  for (const auto& stage : cfg) stages.push_back(read_quantizer(stage));
  return stages;
}

QuantizerRule RecipeReader::read_rule(const YAML::Node& entry) {
  only_keys(entry, {"quantizer_name", "parent_class", "cfg", "enable"});
  if (!entry["quantizer_name"]) fail(entry, "a rule needs quantizer_name");
  QuantizerRule rule;
  rule.pattern = scalar<std::string>(entry["quantizer_name"], "a pattern");
  if (entry["parent_class"]) {
    rule.parent_class = scalar<std::string>(entry["parent_class"], "a class name");
  }
  if (entry["enable"]) rule.enable = scalar<bool>(entry["enable"], "true or false");
  const YAML::Node cfg = entry["cfg"];
  // An empty cfg beside `enable: false` says nothing.
  const bool off = rule.enable.has_value() && !*rule.enable;
  if (cfg && !cfg.IsNull() && !(off && !cfg.IsScalar() && cfg.size() == 0)) {
    rule.stages = read_stages(cfg);
  }
  if (!rule.stages && !rule.enable) fail(entry, "a rule needs cfg or enable");
  return rule;
}

std::vector<QuantizerRule> RecipeReader::read_rules(const YAML::Node& list) {
  if (!list.IsSequence()) fail(list, "quant_cfg must be a list of rules");
  std::vector<QuantizerRule> rules;
  for (const auto& entry : list) {
    if (!entry.IsMap() || !entry["$import"]) {
      rules.push_back(read_rule(entry));
      continue;
    }
    if (entry.size() != 1) fail(entry, "$import must be the only key of a list item");
    const Import& import = imported(entry["$import"]);
    const InImport inside(*this, import.source);
    if (import.node.IsSequence()) {
      for (const auto& rule : import.node) rules.push_back(read_rule(rule));
    } else {
      rules.push_back(read_rule(import.node));
    }
  }
  return rules;
}

void RecipeReader::read_quantize(const YAML::Node& section, Recipe& recipe) {
  bool has_rules = false;
  with_imports(section, {"algorithm", "quant_cfg"}, [&](const YAML::Node& map) {
    if (const YAML::Node algorithm = map["algorithm"]) {
      recipe.algorithms.clear();
      if (algorithm.IsScalar())
        recipe.algorithms.push_back({algorithm.as<std::string>(), Json::object(), 0});
      if (algorithm.IsMap()) {
        AlgorithmSpec spec;
        for (const auto& e : algorithm) {
          if (e.first.as<std::string>() == "method")
            spec.method = e.second.as<std::string>();
          else
            spec.options[e.first.as<std::string>()] =
                e.second.as<std::string>() == "true" ? Json(true) : Json(e.second.as<double>());
        }
        recipe.algorithms.push_back(spec);
        if (spec.method == "gptq") recipe.propagate = Recipe::Propagate::kQuantized;
      }
    }
    if (const YAML::Node rules = map["quant_cfg"]) {
      recipe.rules = read_rules(rules);
      has_rules = true;
    }
  });
  if (!has_rules) fail(section, "quant_cfg is missing");
}

Recipe RecipeReader::read(std::string_view yaml) {
  const YAML::Node root = parse(yaml);
  only_keys(root, {"imports", "metadata", "quantize"});
  read_imports(root["imports"]);
  if (!root["quantize"]) fail(root, "the section 'quantize' is missing");
  Recipe recipe;
  if (const YAML::Node metadata = root["metadata"]) {
    only_keys(metadata, {"recipe_type", "preset", "description"});
    if (metadata["preset"]) recipe.preset = scalar<std::string>(metadata["preset"], "a name");
    if (metadata["description"]) {
      recipe.description = scalar<std::string>(metadata["description"], "a text");
    }
  }
  read_quantize(root["quantize"], recipe);
  return recipe;
}

}  // namespace halftone
