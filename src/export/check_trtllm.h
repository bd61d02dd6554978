#pragma once

#include "export/finding.h"
#include "export/reshard_plan.h"
#include "export/trtllm_form.h"

namespace halftone {

// What a TensorRT-LLM checkpoint has against it, by its configuration and headers alone.

// Every file of the plan is there, whole, with the planned tensors in their dtypes and shapes, and
// no rank's file beside them; `rest`: the file of what those do not hold.
Findings check_rank_headers(const ReshardPlan& plan, const fs::path& folder, const fs::path& rest);

// config.json and quant_cfg.json of every part say what follows from the unified form.
Findings check_trtllm_configs(const UnifiedForm& form, const Parallelism& parallel,
                              const fs::path& folder);

// What its loader asks for beyond that (trtllm-export.md, 2.3, 4.5, 4.7 and 9).
Findings check_trtllm_engine(const UnifiedForm& form, const Parallelism& parallel);

}  // namespace halftone
