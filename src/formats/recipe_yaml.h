#pragma once

#include <yaml-cpp/yaml.h>

#include <string>
#include <string_view>
#include <vector>

#include "core/files.h"
#include "formats/quantizer.h"
#include "formats/recipe.h"

namespace halftone {

// A YAML text with its place, for messages with lines.
class RecipeReader {
 public:
  RecipeReader(std::string source, fs::path directory);

  Recipe read(std::string_view yaml);

 private:
  YAML::Node parse(std::string_view yaml) const;
  [[noreturn]] void fail(const YAML::Node& node, const std::string& text) const;
  void only_keys(const YAML::Node& map, const std::vector<std::string>& allowed) const;
  template <typename T>
  T scalar(const YAML::Node& node, const char* what) const;

  void read_imports(const YAML::Node& imports);
  // The snippet behind an alias, and the reader that knows its lines.
  YAML::Node imported(const YAML::Node& alias) const;
  // A mapping with its `$import`s merged in; inline keys win.
  YAML::Node merged(const YAML::Node& map) const;

  std::vector<QuantizerRule> read_rules(const YAML::Node& list) const;
  QuantizerRule read_rule(const YAML::Node& entry) const;
  Quantizer read_quantizer(const YAML::Node& attributes) const;
  NumberFormat read_number_format(const YAML::Node& node) const;
  BlockSizes read_block_sizes(const YAML::Node& node) const;

  std::string source_;
  fs::path directory_;
  std::vector<std::pair<std::string, YAML::Node>> imports_;
};

}  // namespace halftone
