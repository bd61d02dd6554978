#pragma once

#include <vector>

#include "formats/recipe.h"
#include "formats/recipe_document.h"

namespace halftone {

// The value of `algorithm:`: a name, {method: name, options...}, a list of those, or null or "none"
// for no calibration. Methods and options that algorithm_methods() does not have, wrong types and
// ranges are UsageErrors with their line.
std::vector<AlgorithmSpec> read_algorithms(const YamlValue& value);

// What the algorithms need of the stage before (calibration.md, 5.9 and 7): GPTQ sees quantized
// activations unless its layerwise option says otherwise.
Recipe::Propagate default_propagate(const std::vector<AlgorithmSpec>& algorithms);

}  // namespace halftone
