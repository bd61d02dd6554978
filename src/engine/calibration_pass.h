#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "calibrate/captured_inputs.h"
#include "calibrate/fake_quant.h"
#include "calibrate/observer.h"
#include "engine/batch_pass.h"
#include "engine/resume_plan.h"
#include "engine/stage_loader.h"
#include "model/source_layout.h"

namespace halftone {

// What each stage of a calibration hands on.
struct CalibratedStage {
  size_t index;
  const LoadedStage& loaded;
  // amax of the stage's floating tensors as stored, by name.
  const std::map<std::string, float>& tensor_amax;
  const StageStatistics& statistics;  // reduced
  const CapturedInputs* inputs;       // null unless they were asked for
  std::vector<LoadStep> steps;        // in which the stage was loaded
};

// A stage as it will be served: what the next stages are calibrated on with
// `propagate: quantized`.
struct ServedStage {
  // Of these tensors of the stage.
  std::function<StageWeights(const std::vector<StoredTensor>&)> weights;
  StageFakeQuant fake_quant;
};

struct CalibrationOptions {
  DType compute_dtype = DType::kBF16;
  bool count_padding = false;
  double observed_experts = 0.0;  // BatchContext
  // A stage of more bytes comes in groups of experts (plan_loads).
  int64_t stage_limit = INT64_MAX;
  bool show_progress = true;
  // Per stage: what to observe. A stage behind the last observed one is loaded, but not computed.
  std::vector<ObserveOptions> observe;
  // The next stage's inputs come from the stage that `consume` returns.
  bool propagate_quantized = false;
  // What is left of the weights for later passes; null: nothing.
  HeldWeights* held = nullptr;
  // The weights on which a step's statistics are taken, given the amaxes of its tensors; null: the
  // source's. Collective.
  std::function<StageWeights(const LoadStep& step, const LoadedStage& loaded,
                             const std::map<std::string, float>& tensor_amax)>
      observed_weights = {};
  // What an interrupted run has left to do, given the batches of this rank; null: everything.
  // Called once, before a weight is read.
  std::function<ResumePlan(size_t computed, const std::vector<int64_t>& batches)> resume = {};
  // Called behind each stage that was run, when `pass` holds the next one's inputs (of a stage
  // below `computed`).
  std::function<void(size_t stage, const BatchPass& pass, size_t computed)> finished = {};
};

struct CalibrationTimes {
  double load_seconds = 0.0;  // waiting for reads, gathering, scanning
  double forward_seconds = 0.0;
  double consume_seconds = 0.0;
  int64_t bytes_read = 0;  // of this rank
};

// Takes the calibration batches through the model once and hands every stage's weights and
// statistics to `consume`, in order. Collective.
using ConsumeStage = std::function<std::optional<ServedStage>(const CalibratedStage&)>;
CalibrationTimes run_calibration(const SourceLayout& source, Model& model,
                                 const std::vector<Batch>& batches,
                                 const CalibrationOptions& options, const Cluster& cluster,
                                 const ConsumeStage& consume);

// The stage's tensors in the compute dtype.
StageWeights weights_of(const LoadedStage& loaded, at::ScalarType dtype);

// amax of a tensor rounded to the model's dtype.
float round_to(float value, DType dtype);

}  // namespace halftone
