#pragma once

#include <cstddef>
#include <map>
#include <string>

#include "calibrate/target_plan.h"

namespace halftone {

// The quantized linears of a stage (their positions), by the names of their weights in the source.
inline std::map<std::string, size_t> quantized_linears(const StageSpec& stage,
                                                       const StagePlan& plan) {
  std::map<std::string, size_t> linear_of;
  for (size_t i = 0; i < stage.linears.size(); ++i) {
    if (plan.linears[i].quantized()) linear_of[stage.linears[i].weight] = i;
  }
  return linear_of;
}

}  // namespace halftone
