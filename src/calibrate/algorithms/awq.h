#pragma once

#include <functional>

#include "calibrate/algorithm.h"

namespace halftone {

// The parts of AWQ that awq_lite, awq_full and svdquant share (calibration.md, 5.6 to 5.8).

bool awq_fits(const LinearFormat& format);
// The exponent of every linear by search, and the smoothing that follows from it.
void choose_awq_scales(const StageRun& run, const AlgorithmSpec& spec, const CapturedInputs& inputs,
                       Choices& choices);
void apply_awq_scales(const StageRun& run, const Choices& choices, StageSolution& solution);

// The clipping of every linear by search, with the smoothing of `solution`.
void choose_awq_clips(const StageRun& run, const AlgorithmSpec& spec, const CapturedInputs& inputs,
                      const StageSolution& solution, Choices& choices);
void apply_awq_clips(const StageRun& run, const Choices& choices, StageSolution& solution);

// Calls body(position, x_TK) for the batches of this rank that reached the linear; concurrently on
// the CPU, each batch on one thread.
void for_each_captured(const StageRun& run, const CapturedInputs& inputs, size_t linear,
                       const std::function<void(size_t, const at::Tensor&)>& body);

}  // namespace halftone
