#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/files.h"
#include "core/json.h"
#include "formats/algorithm_options.h"
#include "formats/quantizer.h"

namespace halftone {

// One entry of quant_cfg. Later rules override earlier ones; a rule with stages replaces all
// attributes, one without only switches.
struct QuantizerRule {
  std::string pattern;
  std::string parent_class;  // empty: any
  std::optional<std::vector<Quantizer>> stages;
  std::optional<bool> enable;
  // Where it was written. Rules of files inside the program are meant for many models.
  std::string source;
  int line = 0;
  bool built_in = false;

  bool matches(const std::string& quantizer_name, const std::string& owner_class) const;
  bool only_disables() const;
};

// What is quantized and how: a preset, a preset with a KV cache, a recipe or a user's file
// (calibration.md, 13.1).
struct Recipe {
  // What a stage's successor gets as inputs: the outputs of the unquantized or of the quantized
  // stage (calibration.md, 7).
  enum class Propagate { kOriginal, kQuantized };

  std::string name;    // the canonical short name, e.g. "nvfp4"
  std::string preset;  // Model Optimizer's name of it
  std::vector<std::string> aliases;
  std::string description;
  // One after the other. Empty: nothing is calibrated.
  std::vector<AlgorithmSpec> algorithms{AlgorithmSpec{"max"}};
  Propagate propagate = Propagate::kOriginal;
  // Linears that engines merge share the scale of their weights in FP8 too: TensorRT-LLM keeps one.
  bool fused_scales = false;
  // A scale of a linear's input is folded into what makes the input, or there is none: the layouts
  // of other libraries have no place for one.
  bool folded_smoothing = false;
  std::vector<QuantizerRule> rules;

  // The quantizer of this name ("model.layers.0.mlp.up_proj.weight_quantizer") whose owner is of
  // this class ("nn.Linear", "attention"). "..._weight_quantizers.3", an expert's, is also found by
  // patterns for "..._weight_quantizer". Embeddings are quantized only by rules for their class.
  QuantizerSequence resolve(const std::string& quantizer_name,
                            const std::string& parent_class) const;
  LinearQuantizers linear(const std::string& module) const;
  // "k" or "v" of an attention module.
  QuantizerSequence kv(const std::string& attention, char which) const;
};

// All rules in order, as stored beside a result.
Json to_json(const Recipe& recipe);

// Unknown keys, wrong types, attributes that halftone does not honour, import cycles, missing
// imports and oversized files are UsageErrors with `source` and line. Imports are looked up among
// the embedded files, then beside the importing file; an empty directory has no files.
Recipe parse_recipe(std::string_view yaml, const std::string& source, const fs::path& directory);
// A file, or a folder with metadata.yml and quantize.yml.
Recipe load_recipe_file(const fs::path& path);

// A recipe by its built-in name ("general/ptq/nvfp4_default-kv_fp8" or only its last part), else a
// file or folder; the suffix may be left out. Unknown ones are UsageErrors that suggest the
// nearest.
Recipe load_recipe(const std::string& name_or_path);
// The built-in recipes in order, without suffix.
std::vector<std::string> recipe_names();

// Presets by their canonical or Model Optimizer's name or an alias; an unknown one is a UsageError
// that suggests the nearest. kind: "ptq" or "kv_cache".
Recipe load_preset(const std::string& name, const std::string& kind);
std::vector<Recipe> all_presets(const std::string& kind);

// The KV cache's rules go behind all others, and a recipe that calibrates nothing gets "max"
// (formats-and-hf-export.md, 1.3). "none" adds nothing.
void add_kv_cache(Recipe& recipe, const std::string& kv_cache);

// A quantizer of a model and the class of its owner, as in Recipe::resolve.
struct QuantizerName {
  std::string name;
  std::string parent_class;
};

struct UnmatchedRule {
  QuantizerRule rule;
  std::string message;  // the pattern, its file and line, and the nearest name
};

// The user's rules that match none of these quantizers. Rules that only disable, and those of files
// inside the program, may well match nothing and are left out.
std::vector<UnmatchedRule> unmatched_rules(const Recipe& recipe,
                                           const std::vector<QuantizerName>& names);

}  // namespace halftone
