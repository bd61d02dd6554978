#pragma once

#include "core/json.h"
#include "export/trtllm_form.h"

namespace halftone {

// config.json of the encoder's or the decoder's checkpoint of T5 and Whisper (trtllm-export.md, 2.6
// and 2.7, h and i).
Json encoder_decoder_config(const UnifiedForm& form, const TrtPart& part,
                            const Parallelism& parallel);

}  // namespace halftone
