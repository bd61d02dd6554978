#pragma once

#include "formats/recipe.h"
#include "formats/recipe_document.h"

namespace halftone {

// A recipe's document (calibration.md, 13.1). `name` stays empty.
Recipe read_recipe(const YamlValue& root);

// `metadata:` and `quantize:` of two files.
Recipe read_recipe(const YamlValue& metadata, const YamlValue& quantize);

}  // namespace halftone
