#pragma once

#include <vector>

#include "formats/recipe.h"
#include "model/model.h"

namespace halftone {

// Every quantizer that a recipe may name in this model, with its owner's class
// (formats-and-hf-export.md, 1.6): of linears ("nn.Linear"), attentions ("attention") and
// embeddings ("nn.Embedding").
std::vector<QuantizerName> quantizer_names(const Model& model);

// A recipe that enables quantizers of embeddings, queries or attention weights asks for what no
// checkpoint stores: a UsageError.
void refuse_other_quantizers(const Model& model, const Recipe& recipe);

}  // namespace halftone
