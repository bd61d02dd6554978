#pragma once

#include "core/json.h"
#include "io/checkpoint.h"
#include "model/model.h"

namespace halftone {

// What a family makes of a checkpoint, from the headers alone: linears, attentions, tied and extra
// tensors, modules that are never quantized.
Json list_model(const Checkpoint& checkpoint, const Model& model);
// The same as text, one line for each entry.
void print_model_listing(const Json& listing);

}  // namespace halftone
