#pragma once

#include <string>
#include <vector>

#include "calibrate/target_plan.h"
#include "core/json.h"
#include "model/source_layout.h"

namespace halftone {

// The two configurations of a unified Hugging Face checkpoint (formats-and-hf-export.md, 4): the
// content of hf_quant_config.json (null: none), and `quantization_config` of config.json. With
// several formats also quant_cfg.json (null: none), where TensorRT-LLM looks for them.
struct QuantConfig {
  Json hf_quant_config;
  Json quantization_config;
  Json quant_cfg = nullptr;
};
QuantConfig make_quant_config(const Model& model, const TargetPlan& target,
                              const SourceLayout& source);

}  // namespace halftone
