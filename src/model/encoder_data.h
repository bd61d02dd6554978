#pragma once

#include <optional>
#include <vector>

#include "io/checkpoint.h"
#include "model/model.h"
#include "text/batches.h"

namespace halftone {

// How samples of a model that has an encoder are made (DatasetOptions::decoder); nothing for
// decoder-only models. The decoder's first id is decoder_start_token_id of config.json, else of
// generation_config.json, else pad_token_id; InputError where there is none or it is no id of the
// vocabulary.
std::optional<DecoderOptions> decoder_options(const Checkpoint& checkpoint, const Model& model);

// Fills `encoder.features` of batches that name WAV files with the log-mel frames of these, and
// lets all others be. Sound is resampled to the front end's rate, cut or padded to what the encoder
// reads. What it computes does not depend on the number of threads.
void add_features(std::vector<Batch>& batches, const Checkpoint& checkpoint);

}  // namespace halftone
