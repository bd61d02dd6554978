#include "formats/recipe_yaml.h"

#include <algorithm>

#include "core/embedded.h"
#include "core/error.h"
#include "core/log.h"
#include "core/text_distance.h"

namespace halftone {
namespace {

// Snippets may import nothing themselves; presets are at most this large.
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
    const auto path = scalar<std::string>(entry.second, "a path");
    const std::string text = embedded_or_file(path, directory_);
    if (text.empty()) fail(entry.second, concat("cannot find the import '", path, "'"));
    imports_.emplace_back(alias, parse(text));
  }
}

YAML::Node RecipeReader::imported(const YAML::Node& alias) const {
  const auto name = scalar<std::string>(alias, "the alias of an import");
  std::vector<std::string> known;
  for (const auto& [key, node] : imports_) {
    if (key == name) return node;
    known.push_back(key);
  }
  fail(alias, concat("no import is called '", name, "'", nearest_hint(name, known)));
}

YAML::Node RecipeReader::merged(const YAML::Node& map) const {
  if (!map.IsMap() || !map["$import"]) return map;
  YAML::Node result(YAML::NodeType::Map);
  const YAML::Node aliases = map["$import"];
  const auto merge = [&](const YAML::Node& from) {
    if (!from.IsMap()) fail(aliases, "the import is not a mapping");
    for (const auto& entry : from) result[entry.first.as<std::string>()] = entry.second;
  };
  if (aliases.IsSequence()) {
    for (const auto& alias : aliases) merge(imported(alias));
  } else {
    merge(imported(aliases));
  }
  for (const auto& entry : map) {
    const auto key = entry.first.as<std::string>();
    if (key != "$import") result[key] = entry.second;
  }
  return result;
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
  only_keys(node, {"-1", "-2", "type", "scale_bits"});
  BlockSizes sizes;
  if (node["-1"]) sizes.last = scalar<int64_t>(node["-1"], "a block size");
  if (node["-2"]) sizes.second_last = scalar<int64_t>(node["-2"], "a block size");
  if (sizes.last < 1 || sizes.second_last < 0) fail(node, "block sizes must be positive");
  if (node["type"]) {
    const auto type = scalar<std::string>(node["type"], "static or dynamic");
    if (type != "static" && type != "dynamic") fail(node["type"], "expected static or dynamic");
    sizes.dynamic = type == "dynamic";
  }
  if (node["scale_bits"]) sizes.scale_bits = read_number_format(node["scale_bits"]);
  return sizes;
}

Quantizer RecipeReader::read_quantizer(const YAML::Node& attributes) const {
  const YAML::Node map = merged(attributes);
  only_keys(map, {"num_bits", "axis", "block_sizes", "type", "enable", "use_constant_amax",
                  "constant_amax"});
  Quantizer quantizer;
  quantizer.enable = !map["enable"] || scalar<bool>(map["enable"], "true or false");
  if (map["num_bits"]) quantizer.num_bits = read_number_format(map["num_bits"]);
  if (map["axis"] && !map["axis"].IsNull()) {
    quantizer.axis = scalar<int64_t>(map["axis"], "an axis or null");
  }
  if (map["block_sizes"] && !map["block_sizes"].IsNull()) {
    quantizer.block_sizes = read_block_sizes(map["block_sizes"]);
  }
  if (quantizer.axis && quantizer.block_sizes) fail(map, "axis and block_sizes exclude each other");
  if (map["type"]) {
    const auto type = scalar<std::string>(map["type"], "static or dynamic");
    if (type != "static" && type != "dynamic") fail(map["type"], "expected static or dynamic");
    quantizer.dynamic = type == "dynamic";
  }
  if (map["use_constant_amax"]) {
    quantizer.use_constant_amax = scalar<bool>(map["use_constant_amax"], "true or false");
  }
  if (map["constant_amax"] && !map["constant_amax"].IsNull()) {
    quantizer.constant_amax = scalar<double>(map["constant_amax"], "a number");
  }
  return quantizer;
}

QuantizerRule RecipeReader::read_rule(const YAML::Node& entry) const {
  only_keys(entry, {"quantizer_name", "parent_class", "cfg", "enable"});
  if (!entry["quantizer_name"]) fail(entry, "a rule needs quantizer_name");
  QuantizerRule rule;
  rule.pattern = scalar<std::string>(entry["quantizer_name"], "a pattern");
  if (entry["parent_class"]) {
    rule.parent_class = scalar<std::string>(entry["parent_class"], "a class name");
  }
  if (entry["enable"]) rule.enable = scalar<bool>(entry["enable"], "true or false");
  const YAML::Node cfg = entry["cfg"];
  if (cfg && !cfg.IsNull()) {
    rule.stages.emplace();
    if (cfg.IsSequence()) {
      for (const auto& stage : cfg) rule.stages->push_back(read_quantizer(stage));
    } else {
      rule.stages->push_back(read_quantizer(cfg));
    }
    if (rule.stages->empty()) fail(cfg, "cfg must not be an empty list");
  }
  if (!rule.stages && !rule.enable) fail(entry, "a rule needs cfg or enable");
  return rule;
}

std::vector<QuantizerRule> RecipeReader::read_rules(const YAML::Node& list) const {
  if (!list.IsSequence()) fail(list, "quant_cfg must be a list of rules");
  std::vector<QuantizerRule> rules;
  for (const auto& entry : list) {
    if (entry.IsMap() && entry["$import"]) {
      if (entry.size() != 1) fail(entry, "$import must be the only key of a list item");
      const YAML::Node snippet = imported(entry["$import"]);
      if (snippet.IsSequence()) {
        for (const auto& rule : snippet) rules.push_back(read_rule(rule));
      } else {
        rules.push_back(read_rule(snippet));
      }
    } else {
      rules.push_back(read_rule(entry));
    }
  }
  return rules;
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
  const YAML::Node quantize = merged(root["quantize"]);
  only_keys(quantize, {"algorithm", "quant_cfg"});
  if (quantize["algorithm"]) {
    recipe.algorithm = scalar<std::string>(quantize["algorithm"], "the name of an algorithm");
  }
  if (recipe.algorithm != "max") {
    fail(quantize["algorithm"],
         concat("unknown algorithm '", recipe.algorithm, "'; supported: max"));
  }
  if (!quantize["quant_cfg"]) fail(quantize, "quant_cfg is missing");
  recipe.rules = read_rules(quantize["quant_cfg"]);
  return recipe;
}

}  // namespace halftone
