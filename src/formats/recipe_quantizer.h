#pragma once

#include <vector>

#include "core/json.h"
#include "formats/quantizer.h"
#include "formats/recipe_document.h"

namespace halftone {

// The value of `cfg`: the attributes of one quantizer, or a list for a sequence. Unknown
// attributes, wrong values and those that change results but are not supported are UsageErrors with
// their line.
std::vector<Quantizer> read_quantizers(const YamlValue& cfg);

// As in the YAML.
Json to_json(const Quantizer& quantizer);

}  // namespace halftone
