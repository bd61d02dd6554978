// awq_lite, then awq_clip on the smoothed weights (calibration.md, 5.7).
#include "calibrate/algorithms/awq.h"

namespace halftone {
namespace {

void choose(const StageRun& run, const AlgorithmSpec& spec, const CapturedInputs& inputs,
            const StageSolution& solution, Choices& choices) {
  choose_awq_scales(run, spec, inputs, choices);
  StageSolution smoothed = solution;
  apply_awq_scales(run, choices, smoothed);
  choose_awq_clips(run, spec, inputs, smoothed, choices);
}

void apply(const StageRun& run, const AlgorithmSpec& /*spec*/, const Choices& choices,
           StageSolution& solution) {
  apply_awq_scales(run, choices, solution);
  apply_awq_clips(run, choices, solution);
}

}  // namespace

Algorithm awq_full_algorithm() {
  Algorithm algorithm = awq_lite_algorithm();
  algorithm.name = "awq_full";
  algorithm.choose = &choose;
  algorithm.apply = &apply;
  return algorithm;
}

}  // namespace halftone
