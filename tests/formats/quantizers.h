#pragma once

#include <string>

#include "formats/codec.h"
#include "formats/recipe.h"

namespace halftone::test {

// A recipe of these lines under quant_cfg, each "- ...".
inline Recipe recipe_of(const std::string& rules, const fs::path& directory = {}) {
  return parse_recipe("quantize:\n  quant_cfg:\n" + rules, "recipe.yaml", directory);
}

// The quantizer that the YAML attributes describe, enabled.
inline Quantizer quantizer_of(const std::string& attributes) {
  return recipe_of("  - {quantizer_name: '*', cfg: " + attributes + "}\n")
      .resolve("x.weight_quantizer", "nn.Linear")
      .only();
}

inline QuantizerSequence sequence_of(const std::string& attributes) {
  return {{quantizer_of(attributes)}};
}

}  // namespace halftone::test
