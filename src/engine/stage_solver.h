#pragma once

#include "calibrate/algorithm.h"
#include "engine/calibration_pass.h"

namespace halftone {

// What stays the same for all stages of one target.
struct SolveContext {
  DType model_dtype;
  DType compute_dtype;
  Numerics numerics;
  const Cluster& cluster;
  // Searches and smoothing leave out experts with fewer tokens.
  int64_t expert_floor = 1;
};

// A calibrated stage for one target: what is stored of it and how it is served. `choices` are
// filled in by searches, or come from a calibration store when the stage has no inputs. Collective.
StageSolution solve_calibrated(const StageSpec& stage, const StagePlan& plan, const Recipe& recipe,
                               const CalibratedStage& seen, const SolveContext& context,
                               Choices& choices);

// These tensors of the stage in the compute dtype as they are served: linears quantized and read
// back, norms and biases with what was folded into them.
StageWeights served_weights(const StageSpec& stage, const StagePlan& plan,
                            const StageSolution& solution, const LoadedStage& loaded,
                            const std::vector<StoredTensor>& tensors, at::ScalarType dtype,
                            const SolveContext& context);

// What the pass must observe for these targets, per stage. `complete`: also what costs little once
// a stage is computed, for exports of other formats from the store.
std::vector<ObserveOptions> what_to_observe(const Model& model,
                                            const std::vector<const TargetPlan*>& plans,
                                            bool complete);

}  // namespace halftone
