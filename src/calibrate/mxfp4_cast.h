#pragma once

#include "calibrate/algorithm.h"

namespace halftone {

// A weight that the source stores as MXFP4 becomes NVFP4 without loss where the exponents of its
// blocks lie within 17 of each other: the second-level scale is a power of two and the block scales
// are the exponents (formats-and-hf-export.md, 6.5). For weights whose scales nothing else has
// chosen; experts of one stack share the second-level scale.
void cast_mxfp4(const StageRun& run, StageSolution& solution);

// The block amaxes of such a weight, F32 [out, in / 16]. exponents: uint8 [out, in / 32];
// second_exponent: the second-level scale's.
at::Tensor cast_block_amax(const at::Tensor& w_NK, const at::Tensor& exponents, int second_exponent,
                           ThreadPool* pool);

}  // namespace halftone
