#pragma once

#include "engine/weight_source.h"

namespace halftone {

struct LogitsOptions {
  DType compute_dtype = DType::kF32;
  bool hidden = false;              // also hidden states and router choices
  int64_t stage_limit = INT64_MAX;  // plan_loads
  HeldWeights* held = nullptr;      // StageLoader
};

// Runs the model on the tensors of a safetensors file: `input_ids` and `attention_mask` [B, T], or
// what an encoder reads (the same, or `input_features` [B, channels, frames]) and
// `decoder_input_ids`. Writes F32 `logits`: [tokens, vocabulary] of the unpadded positions in row
// order, of models with an encoder [B, T, vocabulary]. With `hidden` also, of the first row,
// `hidden.layer_<i>` (or `hidden.encoder_layer_<i>`, ...), and `router.layer_<i>.expert_ids` (I32,
// ascending) and `.expert_weights` of the unpadded tokens. Rank 0 computes and writes; the file
// appears when it is complete. Collective.
void evaluate_logits(const Checkpoint& checkpoint, Model& model, WeightSource& source,
                     const fs::path& input, const fs::path& output, const LogitsOptions& options,
                     const Cluster& cluster);

}  // namespace halftone
