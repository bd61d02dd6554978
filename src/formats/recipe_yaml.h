#pragma once

#include <yaml-cpp/yaml.h>

#include <string>
#include <string_view>
#include <vector>

#include "core/files.h"
#include "formats/quantizer.h"
#include "formats/recipe.h"

namespace halftone {

// A YAML text with its place, for messages with lines. Imports may import nothing themselves.
class RecipeReader {
 public:
  RecipeReader(std::string source, fs::path directory);

  Recipe read(std::string_view yaml);

 private:
  struct Import {
    std::string alias;
    std::string source;  // for messages
    YAML::Node node;
  };
  // While it lives, messages name an import instead of the recipe.
  class InImport {
   public:
    InImport(RecipeReader& reader, std::string source);
    ~InImport();
    InImport(const InImport&) = delete;
    InImport& operator=(const InImport&) = delete;

   private:
    RecipeReader& reader_;
    std::string recipe_;
  };

  YAML::Node parse(std::string_view yaml) const;
  [[noreturn]] void fail(const YAML::Node& node, const std::string& text) const;
  void only_keys(const YAML::Node& map, const std::vector<std::string>& allowed) const;
  template <typename T>
  T scalar(const YAML::Node& node, const char* what) const;

  void read_imports(const YAML::Node& imports);
  const Import& imported(const YAML::Node& alias) const;
  // Applies a mapping's `$import`s in order and then the mapping itself: inline keys win.
  template <typename Apply>
  void with_imports(const YAML::Node& map, std::vector<std::string> allowed, const Apply& apply);

  std::vector<QuantizerRule> read_rules(const YAML::Node& list);
  QuantizerRule read_rule(const YAML::Node& entry);
  std::vector<Quantizer> read_stages(const YAML::Node& cfg);
  Quantizer read_quantizer(const YAML::Node& attributes);
  void apply_attributes(const YAML::Node& map, Quantizer& quantizer) const;
  NumberFormat read_number_format(const YAML::Node& node) const;
  BlockSizes read_block_sizes(const YAML::Node& node) const;
  bool read_is_dynamic(const YAML::Node& type) const;
  void read_quantize(const YAML::Node& section, Recipe& recipe);

  std::string source_;
  fs::path directory_;
  std::vector<Import> imports_;
};

}  // namespace halftone
