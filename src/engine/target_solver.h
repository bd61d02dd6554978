#pragma once

#include <optional>
#include <vector>

#include "engine/packer.h"
#include "engine/stage_solver.h"
#include "io/statistics_store.h"

namespace halftone {

// Solves each stage for all targets of a run and hands it to their packers.
class TargetSolver {
 public:
  // `from_store`: statistics and search results of an earlier run; null: the calibration's own.
  // `compressor`: of the only target, whose weights are held as they are stored; null: none is.
  TargetSolver(const Model& model, const std::vector<Target>& targets, const SolveContext& context,
               const StatisticsStore* from_store, Compressor* compressor = nullptr);

  // `store` takes statistics and search results; null: nobody does. The stage as it is served, for
  // a target that propagates quantized activations. Collective.
  std::optional<ServedStage> run(const CalibratedStage& seen, std::vector<StagePacker>& packers,
                                 StatisticsStore* store);

  // What is recorded of the last stage itself rather than of its linears, by stage name.
  const LinearRecords& stage_records(size_t target) const { return stage_records_[target]; }

 private:
  std::optional<ServedStage> solve_all(const CalibratedStage& seen,
                                       std::vector<StagePacker>& packers, StatisticsStore* store);
  StageSolution solve(const CalibratedStage& seen, const TargetPlan& plan, Choices& choices) const;
  void pack(const CalibratedStage& seen, const StageSolution& solution, StagePacker& packer) const;
  ServedStage serve(const CalibratedStage& seen, const StagePlan& plan,
                    const StageSolution& solution) const;

  const Model& model_;
  const std::vector<Target>& targets_;
  SolveContext context_;
  const StatisticsStore* from_store_;
  Compressor* compressor_;
  std::vector<LinearRecords> stage_records_;  // per target
};

}  // namespace halftone
