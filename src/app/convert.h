#pragma once

#include "app/options.h"
#include "dist/world.h"

namespace halftone {

// halftone export without a store: from a unified checkpoint that halftone wrote to TensorRT-LLM's
// layout, or back. Collective.
void convert_checkpoint(const Options& options, const World& world);

}  // namespace halftone
