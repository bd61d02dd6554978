#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/files.h"

namespace halftone {

inline constexpr size_t kMaxRecipeBytes = size_t{1} << 20;

// A YAML text and where it comes from.
struct RecipeFile {
  std::string identity;  // the same for the same file; may be empty
  std::string source;    // for messages
  std::string text;
  fs::path directory;  // where its imports are looked up; empty: nowhere
  bool built_in = false;
};

// A file on disk; none, one that is too large or no regular file is a UsageError.
RecipeFile recipe_file_at(const fs::path& path);
// One inside the program, e.g. "units/fp8.yaml".
RecipeFile built_in_recipe_file(std::string_view name);

// What an import of this path means in a file of this directory: a file inside the program, else
// one on disk, with or without its suffix. Nothing where there is none.
std::optional<RecipeFile> find_import(const std::string& path, const fs::path& directory);

}  // namespace halftone
