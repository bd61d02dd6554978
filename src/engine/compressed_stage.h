#pragma once

#include <map>
#include <string>

#include "engine/held_weights.h"
#include "engine/stage_solver.h"

namespace halftone {

// A linear's stored tensors among those of a loaded stage, where they are called
// "<linear>.<suffix>"; the map's names are the suffixes.
PackedLinear stored_linear(const LoadedStage& loaded, const LinearSite& linear,
                           const LinearFormat& format, DType model_dtype);

// A load step as a target stores it, whole on every rank: linears as "<linear>.<suffix>", other
// tensors under their own names as the source has them.
struct CompressedStep {
  LoadedStage tensors;
  bool first = true;  // of the stage's steps
};

// Residency `compressed` for one target: turns what is loaded into what is stored, and that into
// weights to compute with. What is held are the very bytes that are written.
class Compressor {
 public:
  // model and held outlive it.
  Compressor(const Model& model, TargetPlan plan, const SolveContext& context, HeldWeights& held)
      : model_(model), plan_(std::move(plan)), context_(context), held_(held) {}

  // Each rank packs some of the linears; all get all of them, and this rank's share is held.
  // Collective.
  CompressedStep compress(const LoadStep& step, const LoadedStage& loaded,
                          const StageSolution& solution);
  // The weights of a compressed step in `dtype`: linears dequantized.
  StageWeights weights(size_t stage, const LoadedStage& compressed, at::ScalarType dtype) const;
  // The weights of a stage that is whole as they will be served, for taking its statistics on them:
  // their scales depend on nothing that is observed. Collective.
  StageWeights before_observation(const LoadStep& step, const LoadedStage& loaded,
                                  const std::map<std::string, float>& tensor_amax,
                                  at::ScalarType dtype) const;

 private:
  StageWeights unpacked(const StageSpec& stage, const StagePlan& plan,
                        const LoadedStage& compressed, at::ScalarType dtype) const;

  const Model& model_;
  TargetPlan plan_;
  SolveContext context_;
  HeldWeights& held_;
};

// Statistics are taken on the weights as `compressor` will serve them.
void observe_compressed(const Compressor& compressor, CalibrationOptions& options);

}  // namespace halftone
