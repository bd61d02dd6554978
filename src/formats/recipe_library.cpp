// Where recipes come from: presets and recipes inside the program, files, folders.
#include <algorithm>
#include <array>

#include "core/embedded.h"
#include "core/error.h"
#include "core/log.h"
#include "core/text_distance.h"
#include "formats/recipe.h"
#include "formats/recipe_yaml.h"

namespace halftone {
namespace {

constexpr std::string_view kFormats = "formats/";
constexpr std::string_view kRecipes = "recipes/";
constexpr std::string_view kGeneral = "general/ptq/";
constexpr std::string_view kSuffix = ".yaml";
constexpr std::string_view kKvPrefix = "kv_";

// Model Optimizer's presets that no checkpoint format stores (formats-and-hf-export.md, 1.7).
struct NotShipped {
  const char* name;
  const char* why;
};
constexpr std::array<NotShipped, 3> kNotShipped{{
    {"mxfp6", "there is no checkpoint format for MXFP6"},
    {"mxint8", "there is no checkpoint format for MXINT8"},
    {"nvfp4_fp8_mha", "it is for diffusion models, and nothing exports FP8 attention products"},
}};

// The parts of the embedded files' names between this folder and the suffix.
std::vector<std::string> names_in(std::string_view folder) {
  std::vector<std::string> names;
  for (const EmbeddedFile& file : embedded_files()) {
    if (!file.name.starts_with(folder) || !file.name.ends_with(kSuffix)) continue;
    const size_t length = file.name.size() - folder.size() - kSuffix.size();
    names.emplace_back(file.name.substr(folder.size(), length));
  }
  return names;
}

Recipe read_built_in(std::string_view folder, const std::string& name) {
  return read_recipe(read_recipe_document(built_in_recipe_file(concat(folder, name, kSuffix))));
}

std::string without_suffix(const std::string& name) {
  for (const std::string_view suffix : {".yaml", ".yml"}) {
    if (name.ends_with(suffix)) return name.substr(0, name.size() - suffix.size());
  }
  return name;
}

std::optional<fs::path> first_file(const fs::path& stem) {
  for (const char* suffix : {"", ".yaml", ".yml"}) {
    const fs::path path = stem.string() + suffix;
    std::error_code error;
    if (fs::is_regular_file(path, error)) return path;
  }
  return std::nullopt;
}

fs::path part_of_folder(const fs::path& folder, const char* name) {
  const std::optional<fs::path> file = first_file(folder / name);
  if (!file) throw UsageError(concat("'", folder.string(), "' holds no ", name, ".yml"));
  return *file;
}

Recipe load_recipe_folder(const fs::path& folder) {
  const YamlValue metadata =
      read_recipe_document(recipe_file_at(part_of_folder(folder, "metadata")));
  const YamlValue quantize =
      read_recipe_document(recipe_file_at(part_of_folder(folder, "quantize")));
  return read_recipe(metadata, quantize);
}

}  // namespace

Recipe parse_recipe(std::string_view yaml, const std::string& source, const fs::path& directory) {
  return read_recipe(read_recipe_document({"", source, std::string(yaml), directory, false}));
}

Recipe load_recipe_file(const fs::path& path) {
  std::error_code error;
  Recipe recipe = fs::is_directory(path, error)
                      ? load_recipe_folder(path)
                      : read_recipe(read_recipe_document(recipe_file_at(path)));
  recipe.name = (path.has_filename() ? path : path.parent_path()).stem().string();
  return recipe;
}

std::vector<std::string> recipe_names() {
  return names_in(kRecipes);
}

Recipe load_recipe(const std::string& name_or_path) {
  const std::vector<std::string> names = recipe_names();
  const std::string wanted = without_suffix(name_or_path);
  std::vector<std::string> known = names;
  for (const std::string& name : names) {
    const bool general = name.starts_with(kGeneral);
    const std::string last = general ? name.substr(kGeneral.size()) : name;
    if (wanted == name || wanted == last) {
      Recipe recipe = read_built_in(kRecipes, name);
      recipe.name = fs::path(name).filename().string();
      return recipe;
    }
    if (general) known.push_back(last);
  }
  std::error_code error;
  if (fs::is_directory(name_or_path, error)) return load_recipe_file(name_or_path);
  if (const auto file = first_file(name_or_path)) return load_recipe_file(*file);
  throw UsageError(concat("'", name_or_path, "' is neither a built-in recipe nor a file",
                          nearest_hint(wanted, known)));
}

std::vector<Recipe> all_presets(const std::string& kind) {
  std::vector<Recipe> presets;
  for (const std::string& name : names_in(kFormats)) {
    const bool kv = name.starts_with(kKvPrefix);
    if (kv != (kind == "kv_cache")) continue;
    presets.push_back(read_built_in(kFormats, name));
    presets.back().name = kv ? name.substr(kKvPrefix.size()) : name;
  }
  return presets;
}

Recipe load_preset(const std::string& name, const std::string& kind) {
  const bool kv = kind == "kv_cache";
  std::vector<std::string> known;
  for (Recipe& preset : all_presets(kind)) {
    std::vector<std::string> names = preset.aliases;
    names.insert(names.begin(), {preset.name, preset.preset});
    if (std::find(names.begin(), names.end(), name) != names.end()) return std::move(preset);
    for (const std::string& one : names) {
      if (std::find(known.begin(), known.end(), one) == known.end()) known.push_back(one);
    }
  }
  for (const NotShipped& other : kNotShipped) {
    if (!kv && name == other.name) {
      throw UsageError(concat("the format '", name, "' is not supported: ", other.why));
    }
  }
  std::string list;
  for (const std::string& one : known) list += (list.empty() ? "" : ", ") + one;
  throw UsageError(concat("unknown ", kv ? "KV cache format" : "format", " '", name, "'",
                          nearest_hint(name, known), "; supported: ", list));
}

void add_kv_cache(Recipe& recipe, const std::string& kv_cache) {
  if (kv_cache == "none") return;
  const Recipe kv = load_preset(kv_cache, "kv_cache");
  recipe.rules.insert(recipe.rules.end(), kv.rules.begin(), kv.rules.end());
  if (recipe.algorithms.empty()) recipe.algorithms = kv.algorithms;
}

}  // namespace halftone
