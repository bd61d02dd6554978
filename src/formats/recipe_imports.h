#pragma once

#include <optional>
#include <string>

#include "formats/recipe_document.h"

namespace halftone {

inline constexpr size_t kMaxRecipeBytes = size_t{1} << 20;

// What an import of this path means in a file of this directory: a file inside the program, else
// one on disk, with or without its suffix. Nothing where there is none.
std::optional<RecipeFile> find_import(const std::string& path, const fs::path& directory);

}  // namespace halftone
