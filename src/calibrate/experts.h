#pragma once

#include "calibrate/algorithm.h"

namespace halftone {

// Mixtures of experts (formats-and-hf-export.md, 3.3.5 and 3.4): the runtime quantizes the inputs
// of all experts of a layer alike.

// The pre-quantization scale of each projection becomes its mean over all experts, where the stage
// asks for it.
void average_expert_scales(const StageRun& run, StageSolution& solution);

// The input amax of each projection becomes the largest over all experts; experts without a token
// take it over, and count as fallbacks. Without any token in the layer it is 0.5.
void share_expert_inputs(const StageRun& run, StageSolution& solution);

// One weight amax for each projection of all experts, where they are stacked in one tensor or max's
// option sync_expert_weight_amax asks for it.
void share_expert_weights(const StageRun& run, StageSolution& solution);

// Tokens observed by the experts of a stage, for summary.json; null without experts.
Json expert_coverage(const StageSpec& stage, const StageStatistics& statistics, int64_t floor);

}  // namespace halftone
