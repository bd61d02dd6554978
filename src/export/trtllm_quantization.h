#pragma once

#include "core/json.h"
#include "export/trtllm_form.h"

namespace halftone {

// What config.json and quant_cfg.json say of formats, in the consumer's names: the layers of every
// pipeline stage are numbered from 0 (trtllm-export.md, 2.3 to 2.5).
struct TrtQuantization {
  Json config;  // "quantization" of config.json
  Json layers;  // quant_cfg.json; null: all linears have one format
};
TrtQuantization trtllm_quantization(const UnifiedForm& form, const TrtPart& part,
                                    const Parallelism& parallel);

}  // namespace halftone
