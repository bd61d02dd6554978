// Max calibration: scales from the largest magnitudes seen (calibration.md, 4), shared among
// linears that engines merge (formats-and-hf-export.md, 3.3).
#include <algorithm>
#include <map>

#include "calibrate/algorithm.h"
#include "core/error.h"
#include "core/log.h"
#include "dist/reductions.h"

namespace halftone {
namespace {

void unify_fused_groups(const SolveInput& input, std::vector<LinearScales>& scales) {
  std::map<int, std::vector<size_t>> groups;
  for (size_t i = 0; i < scales.size(); ++i) {
    const int group = input.stage.linears[i].fused_group;
    if (group >= 0 && input.plan.codecs[i] != nullptr) groups[group].push_back(i);
  }
  for (const auto& [group, members] : groups) {
    if (!input.plan.codecs[members.front()]->unifies_weight_amax()) continue;
    float amax = 0.0f;
    for (const size_t i : members) amax = std::max(amax, scales[i].weight_amax);
    for (const size_t i : members) scales[i].weight_amax = amax;
  }
}

std::vector<LinearScales> solve(const SolveInput& input) {
  std::vector<LinearScales> scales(input.stage.linears.size());
  for (size_t i = 0; i < scales.size(); ++i) {
    if (input.plan.codecs[i] == nullptr) continue;
    scales[i].weight_amax = input.weight_amax[i];
    scales[i].input_dtype = input.compute_dtype;
    if (!input.plan.input_quantized[i]) continue;
    if (input.statistics.input_amax[i] == MaxBucket::kAbsent) {
      throw InputError(concat("'", input.stage.linears[i].name,
                              "' saw no token in calibration: give more --calib data"));
    }
    scales[i].input_amax = input.statistics.input_amax[i];
  }
  unify_fused_groups(input, scales);
  return scales;
}

}  // namespace

Algorithm max_algorithm() {
  return {"max", &solve};
}

}  // namespace halftone
