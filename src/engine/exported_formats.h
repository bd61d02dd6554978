#pragma once

#include <vector>

#include "calibrate/target_plan.h"
#include "io/checkpoint.h"

namespace halftone {

// The format of every linear and of every attention's cache in a unified Hugging Face checkpoint,
// as its configuration and its headers tell, for the model's stages. What an algorithm did beyond
// the stored tensors is unknown. What cannot be read is an InputError.
std::vector<StagePlan> exported_formats(const Checkpoint& checkpoint, const Model& model);

}  // namespace halftone
