#pragma once

#include "export/reshard_plan.h"
#include "export/trtllm_form.h"

namespace halftone {

// The dtype of unquantized tensors there: the model's, but F16 for F32.
DType trtllm_dtype(const UnifiedForm& form);

// rank{i}.safetensors of a TensorRT-LLM checkpoint (trtllm-export.md, 3 and 4): QKV and gate/up
// fused, KV heads repeated, experts stacked, vocabulary padded, weights and block scales split, and
// layers dealt to pipeline stages. What check_trtllm() refuses must not come here.
ReshardPlan plan_trtllm(const UnifiedForm& form, const Parallelism& parallel);

}  // namespace halftone
