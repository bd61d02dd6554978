#include "formats/recipe_files.h"

#include "core/embedded.h"
#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

constexpr const char* kSuffixes[] = {"", ".yaml", ".yml"};

// Model Optimizer's own recipes import by these folders what lies in units/ here.
std::string built_in_name(const std::string& path) {
  for (const std::string_view folder : {"configs/numerics/", "configs/ptq/units/"}) {
    if (path.starts_with(folder)) return concat("units/", path.substr(folder.size()));
  }
  return path;
}

}  // namespace

RecipeFile recipe_file_at(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) {
    throw UsageError(concat("'", path.string(), "' is no file"));
  }
  if (fs::file_size(path, error) > kMaxRecipeBytes) {
    throw UsageError(concat(path.string(), ": larger than ", kMaxRecipeBytes, " bytes"));
  }
  const fs::path folder = path.parent_path();
  return {fs::weakly_canonical(path, error).string(), path.string(),
          read_text_file(path, static_cast<int64_t>(kMaxRecipeBytes)),
          folder.empty() ? fs::path(".") : folder, false};
}

RecipeFile built_in_recipe_file(std::string_view name) {
  return {concat("built-in ", name),
          concat("built-in ", name),
          std::string(embedded_file(name)),
          {},
          true};
}

std::optional<RecipeFile> find_import(const std::string& path, const fs::path& directory) {
  for (const char* suffix : kSuffixes) {
    const std::string name = built_in_name(path) + suffix;
    if (name.ends_with(".yaml") && !embedded_file(name).empty()) return built_in_recipe_file(name);
  }
  if (directory.empty()) return std::nullopt;
  for (const char* suffix : kSuffixes) {
    const fs::path file = directory / (path + suffix);
    std::error_code error;
    if (fs::is_regular_file(file, error)) return recipe_file_at(file);
  }
  return std::nullopt;
}

}  // namespace halftone
