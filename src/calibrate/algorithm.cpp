#include "calibrate/algorithm.h"

#include "calibrate/fusion.h"
#include "calibrate/mxfp4_cast.h"
#include "core/error.h"
#include "core/log.h"
#include "core/text_distance.h"

namespace halftone {

const std::vector<Algorithm>& algorithms() {
  static const std::vector<Algorithm> list{
      max_algorithm(),          mse_algorithm(),         local_hessian_algorithm(),
      act_headroom_algorithm(), smoothquant_algorithm(), awq_lite_algorithm(),
      awq_clip_algorithm(),     awq_full_algorithm(),    svdquant_algorithm(),
      gptq_algorithm(),
  };
  return list;
}

const Algorithm& algorithm_named(const std::string& name) {
  std::vector<std::string> known;
  for (const Algorithm& algorithm : algorithms()) {
    if (algorithm.name == name) return algorithm;
    known.push_back(algorithm.name);
  }
  throw UsageError(concat("unknown algorithm '", name, "'", nearest_hint(name, known)));
}

StageSolution solve_stage(const StageRun& run, const CapturedInputs* inputs, Choices& choices) {
  choices.resize(run.stage.linears.size());
  StageSolution solution;
  const Algorithm first = max_algorithm();
  first.apply(run, {}, choices, solution);
  for (const AlgorithmSpec& spec : run.recipe.algorithms) {
    const Algorithm& algorithm = algorithm_named(spec.method);
    if (algorithm.choose != nullptr && inputs != nullptr) {
      algorithm.choose(run, spec, *inputs, solution, choices);
    }
    if (algorithm.apply != nullptr && algorithm.name != first.name) {
      algorithm.apply(run, spec, choices, solution);
    }
  }
  cast_mxfp4(run, solution);
  fuse(run, solution);
  return solution;
}

}  // namespace halftone
