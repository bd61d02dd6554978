#pragma once

#include "calibrate/algorithm.h"

namespace halftone {

// What must be equal among linears that engines merge is made equal, scales that can be folded away
// are, and the weights' amaxes are taken behind all edits (formats-and-hf-export.md, 3.1 to 3.4).
// Collective.
void fuse(const StageRun& run, StageSolution& solution);

// T(mean of scales) as the reference takes it; all [in], T.
at::Tensor mean_scale(const std::vector<at::Tensor>& scales, Numerics numerics);

// Gives a linear another pre-quantization scale and the weight the inverse
// (formats-and-hf-export.md, 3.3.3). Nothing changes when they are equal.
void resmooth(LinearSolution& linear, const at::Tensor& scale_K);

}  // namespace halftone
