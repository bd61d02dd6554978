#pragma once

#include <memory>

#include "model/decoder_spec.h"
#include "model/family.h"

namespace halftone {

// The model that a description asks for: embedding, layers, head. `input` tells which tensors of
// next-token layers there are.
std::unique_ptr<Model> make_decoder(DecoderSpec spec, const ModelInput& input);

}  // namespace halftone
