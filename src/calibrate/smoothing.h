#pragma once

#include "calibrate/algorithm.h"

namespace halftone {

// Multiplies a linear's input channels by scale_K (F32 [in]) and its weight's columns by the
// inverse (formats-and-hf-export.md, 2.15). A scale that the model's dtype cannot hold, or that is
// not finite, leaves the linear as it is, with a fallback in its record.
void smooth(const StageRun& run, size_t linear, const at::Tensor& scale_K,
            LinearSolution& solution);

// Scale 1, with the reason in the record.
void leave_unsmoothed(const StageRun& run, size_t linear, const std::string& reason,
                      LinearSolution& solution);

}  // namespace halftone
