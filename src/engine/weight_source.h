#pragma once

#include <memory>
#include <string>
#include <vector>

#include "calibrate/fake_quant.h"
#include "calibrate/target_plan.h"
#include "engine/calibration_pass.h"
#include "engine/compressed_stage.h"
#include "engine/stage_loader.h"
#include "engine/stage_solver.h"

namespace halftone {

// Where an evaluated model's weights come from and how its activations are treated: the original, a
// fake-quantized one in memory, or an exported checkpoint.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // What to load, per stage.
  virtual const std::vector<std::vector<StoredTensor>>& tensors() const = 0;
  // The weights of a stage, or of the part of it that is loaded, in `dtype` as they are computed
  // with.
  virtual StageWeights weights(size_t stage, const LoadedStage& loaded, at::ScalarType dtype,
                               ThreadPool& pool) = 0;
  // Valid after weights() of the same stage.
  virtual std::unique_ptr<LinearRunner> make_runner(size_t stage) const = 0;
};

std::unique_ptr<WeightSource> make_original_source(const SourceLayout& source);

// The solutions of a calibration, per stage. `compressor`: takes every stage; null: nothing is held
// compressed. Collective.
std::vector<StageSolution> calibrate_model(const SourceLayout& source, Model& model,
                                           const TargetPlan& plan,
                                           const std::vector<Batch>& batches,
                                           const CalibrationOptions& options,
                                           const SolveContext& context,
                                           Compressor* compressor = nullptr);
// `compressor`: the one that took the stages of this calibration, if any.
std::unique_ptr<WeightSource> make_fake_quant_source(const SourceLayout& source, const Model& model,
                                                     const TargetPlan& plan,
                                                     std::vector<StageSolution> solutions,
                                                     const SolveContext& context,
                                                     std::unique_ptr<Compressor> compressor = {});

// Whether config.json has a quantization_config other than that of a low-bit source.
bool is_quantized(const Checkpoint& checkpoint);
// Whether what it stores is read back as it is: quantized, or of compressed-tensors (which may also
// be a low-bit source) in formats of ours.
bool is_export(const Checkpoint& checkpoint);
// A unified Hugging Face checkpoint, or one in a library's layout, read back: which linears are
// stored how follows from its configuration and is checked against the headers (InputError).
std::unique_ptr<WeightSource> make_exported_source(const Checkpoint& checkpoint,
                                                   const Model& model);

}  // namespace halftone
