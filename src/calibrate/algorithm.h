#pragma once

#include <string>
#include <vector>

#include "calibrate/statistics.h"
#include "calibrate/target_plan.h"

namespace halftone {

// A stage's statistics on their way to scales.
struct SolveInput {
  const StageSpec& stage;
  const StagePlan& plan;
  const StageStatistics& statistics;
  const std::vector<float>& weight_amax;  // per linear, in the model's dtype
  DType compute_dtype;
};

// One calibration algorithm: one file in algorithms/, one line in algorithm.cpp.
struct Algorithm {
  std::string name;
  // The scales of the stage's quantized linears, in the order of its list.
  std::vector<LinearScales> (*solve)(const SolveInput& input);
};

const std::vector<Algorithm>& algorithms();
// An unknown name is a UsageError.
const Algorithm& algorithm_named(const std::string& name);

Algorithm max_algorithm();

}  // namespace halftone
