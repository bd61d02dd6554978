#pragma once

#include <optional>
#include <string>
#include <vector>

#include "calibrate/fake_quant.h"
#include "engine/stage_solver.h"
#include "io/statistics_store.h"

namespace halftone {

// A candidate of the search for a whole model: its recipe wherever groups may have it.
struct CandidatePlan {
  std::string name;
  TargetPlan target;
};

// One stage as a candidate would serve it, each linear by itself: scales of its input stay with it
// instead of going into other linears or norms.
class CandidateStage {
 public:
  // Solves the stage from the statistics of the calibration store. Collective.
  CandidateStage(const StageSpec& stage, size_t index, const CandidatePlan& plan,
                 const LoadedStage& loaded, const StatisticsStore& store,
                 const SolveContext& context);

  // Quantizes those of `linears` whose weights are among `tensors`; what was packed before goes.
  void pack(const std::vector<StoredTensor>& tensors, const LoadedStage& loaded);
  bool has(size_t linear) const { return packed_[linear].has_value(); }
  // The packed weight read back, in the compute dtype.
  at::Tensor weight(size_t linear, ThreadPool* pool) const;
  // The linear on its unquantized input; `w_NK`: what weight() gave.
  at::Tensor run(size_t linear, const at::Tensor& x, const at::Tensor& w_NK,
                 const at::Tensor& bias_N) const;

 private:
  const StageSpec& stage_;
  StagePlan plan_;
  SolveContext context_;
  StageSolution solution_;
  StageFakeQuant fake_quant_;
  std::vector<std::optional<PackedLinear>> packed_;
};

// The plan in which every linear keeps the scale of its input.
StagePlan without_folding(StagePlan plan);

// Beside a stage's statistics: amaxes of the linears' weights as they are stored in the source, so
// that the stage can be solved without reading them again.
void save_weight_amaxes(StatisticsStore& store, const StageSpec& stage,
                        const std::map<std::string, float>& tensor_amax);

}  // namespace halftone
