#pragma once

#include "core/files.h"
#include "model/model.h"
#include "text/batches.h"

namespace halftone {

// The batch that a safetensors file holds: `input_ids` (I64 or I32) and `attention_mask` (all ones
// where it is missing), for a model with an encoder what that reads (`input_features`, F32, instead
// of ids if there are any) and `decoder_input_ids`. Missing tensors, ids outside the vocabulary, a
// mask with gaps, too many positions: InputErrors naming file and tensor.
Batch read_model_input(const fs::path& path, const Model& model);

}  // namespace halftone
