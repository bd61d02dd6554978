#pragma once

#include <vector>

#include "formats/recipe.h"
#include "model/model.h"

namespace halftone {

// Every quantizer of a model as recipes name them (formats-and-hf-export.md, 1.6): of linears, of
// attentions, and of the embedding.
std::vector<QuantizerName> quantizer_names(const Model& model);

}  // namespace halftone
