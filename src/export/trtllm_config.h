#pragma once

#include "core/json.h"
#include "export/trtllm_form.h"

namespace halftone {

// config.json of a TensorRT-LLM checkpoint (trtllm-export.md, 2).
Json trtllm_config(const UnifiedForm& form, const TrtPart& part, const Parallelism& parallel);
// quant_cfg.json beside it; null where all linears have one format (2.5).
Json trtllm_quant_cfg(const UnifiedForm& form, const TrtPart& part, const Parallelism& parallel);

}  // namespace halftone
