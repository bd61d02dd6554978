#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "calibrate/captured_inputs.h"
#include "calibrate/solution.h"
#include "calibrate/statistics.h"
#include "calibrate/target_plan.h"
#include "dist/communicator.h"
#include "kernels/thread_pool.h"

namespace halftone {

// What searches found of each linear of a stage, by name, F32 on the CPU: kept in the calibration
// store, so that an export needs no forward pass. The same on every rank.
using Choices = std::vector<std::map<std::string, at::Tensor>>;

// A stage on its way to a solution, and what it may be computed with.
struct StageRun {
  const StageSpec& stage;
  const StagePlan& plan;
  const Recipe& recipe;
  const StageStatistics& statistics;  // reduced
  // amax of each linear's source weight in the model's dtype.
  const std::vector<float>& weight_amax;
  // A tensor of the stage in the model's dtype, by its name on disk, on the run's device.
  std::function<at::Tensor(const std::string&)> tensor;
  DType model_dtype;
  DType compute_dtype;
  Numerics numerics;
  Communicator& ranks;
  ThreadPool& pool;
  // The block exponents of a weight that the source stores as MXFP4 (uint8 [out, in / 32]); of
  // others undefined. Null: there are none.
  std::function<at::Tensor(const std::string&)> block_exponents = {};

  at::Tensor weight(size_t linear) const { return tensor(stage.linears[linear].weight); }
  const LinearFormat& format(size_t linear) const { return plan.linears[linear]; }
};

// One calibration algorithm: one file in algorithms/, one line in algorithm.cpp. A recipe may name
// several; each refines what those before it left.
struct Algorithm {
  std::string name;
  Smoothing smoothing = Smoothing::kNone;
  // Statistics beyond the amaxes.
  bool needs_mean_abs = false;
  // Whether choose() reads the stage's inputs.
  bool needs_inputs = false;
  // The formats that the algorithm works on, and in words; null: all. Others keep what they have.
  bool (*fits)(const LinearFormat& format) = nullptr;
  std::string fits_text;
  bool works_on(const LinearFormat& format) const {
    return format.quantized() && (fits == nullptr || fits(format));
  }
  // Searches over the inputs that the ranks captured; may be null. Collective. `solution` is what
  // the algorithms before this one left.
  void (*choose)(const StageRun& run, const AlgorithmSpec& spec, const CapturedInputs& inputs,
                 const StageSolution& solution, Choices& choices) = nullptr;
  // Turns statistics and choices into the solution. Collective.
  void (*apply)(const StageRun& run, const AlgorithmSpec& spec, const Choices& choices,
                StageSolution& solution) = nullptr;
};

const std::vector<Algorithm>& algorithms();
// An unknown name is a UsageError.
const Algorithm& algorithm_named(const std::string& name);

Algorithm max_algorithm();
Algorithm mse_algorithm();
Algorithm local_hessian_algorithm();
Algorithm act_headroom_algorithm();
Algorithm smoothquant_algorithm();
Algorithm awq_lite_algorithm();
Algorithm awq_clip_algorithm();
Algorithm awq_full_algorithm();
Algorithm svdquant_algorithm();
Algorithm gptq_algorithm();

// The rank of the branch that svdquant puts beside a linear; 0: none (skip_layers).
int64_t low_rank_of(const AlgorithmSpec& spec, const LinearSite& linear);

// The whole way from statistics to scales: max, the recipe's algorithms in order, sharing among
// fused linears and experts. `inputs` null: `choices` are those of an earlier run. Collective.
StageSolution solve_stage(const StageRun& run, const CapturedInputs* inputs, Choices& choices);

}  // namespace halftone
