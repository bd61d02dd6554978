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

// The presets' files; a KV cache's begin with "kv_".
std::vector<std::string> preset_files(const std::string& kind) {
  std::vector<std::string> files = names_in(kFormats);
  std::erase_if(files, [&](const std::string& name) {
    return name.starts_with(kKvPrefix) != (kind == "kv_cache");
  });
  return files;
}

Recipe read_preset(const std::string& file) {
  Recipe preset = read_built_in(kFormats, file);
  preset.name = file.starts_with(kKvPrefix) ? file.substr(kKvPrefix.size()) : file;
  return preset;
}

// Without repetition.
std::vector<std::string> names_of(const Recipe& preset) {
  std::vector<std::string> names{preset.name};
  for (const std::string& alias : preset.aliases) names.push_back(alias);
  names.push_back(preset.preset);
  std::vector<std::string> unique;
  for (const std::string& name : names) {
    if (std::find(unique.begin(), unique.end(), name) == unique.end()) unique.push_back(name);
  }
  return unique;
}

[[noreturn]] void fail_unknown(const std::string& name, const std::string& kind) {
  const bool kv = kind == "kv_cache";
  for (const NotShipped& other : kNotShipped) {
    if (!kv && name == other.name) {
      throw UsageError(concat("the format '", name, "' is not supported: ", other.why));
    }
  }
  std::vector<std::string> known;
  std::string list;
  for (const Recipe& preset : all_presets(kind)) {
    for (const std::string& one : names_of(preset)) {
      known.push_back(one);
      list += (list.empty() ? "" : ", ") + one;
    }
  }
  throw UsageError(concat("unknown ", kv ? "KV cache format" : "format", " '", name, "'",
                          nearest_hint(name, known), "; supported: ", list));
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
  for (const std::string& file : preset_files(kind)) presets.push_back(read_preset(file));
  return presets;
}

Recipe load_preset(const std::string& name, const std::string& kind) {
  const std::vector<std::string> files = preset_files(kind);
  const std::string file = kind == "kv_cache" ? concat(kKvPrefix, name) : name;
  if (std::find(files.begin(), files.end(), file) != files.end()) return read_preset(file);
  for (Recipe& preset : all_presets(kind)) {
    const std::vector<std::string> names = names_of(preset);
    if (std::find(names.begin(), names.end(), name) != names.end()) return std::move(preset);
  }
  fail_unknown(name, kind);
}

void add_kv_cache(Recipe& recipe, const std::string& kv_cache) {
  if (kv_cache == "none") return;
  const Recipe kv = load_preset(kv_cache, "kv_cache");
  recipe.rules.insert(recipe.rules.end(), kv.rules.begin(), kv.rules.end());
  if (recipe.algorithms.empty()) recipe.algorithms = kv.algorithms;
}

}  // namespace halftone
