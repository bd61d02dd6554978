#pragma once

#include "calibrate/target_plan.h"

namespace halftone {

// Gives the linears of a stage what the recipe's algorithms add to their codecs, and every
// pre-quantization scale its place (formats-and-hf-export.md, 3.3): folded into a norm that feeds
// nothing but its group, folded into the linear before, or stored.
void plan_smoothing(const StageSpec& stage, const Recipe& recipe, StagePlan& plan);

// The members of every fused group that is quantized, by group number, in list order.
std::vector<std::vector<size_t>> quantized_groups(const StageSpec& stage, const StagePlan& plan);

}  // namespace halftone
