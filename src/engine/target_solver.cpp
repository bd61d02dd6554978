#include "engine/target_solver.h"

#include "calibrate/experts.h"
#include "engine/store_stage.h"
#include "formats/tensor_bridge.h"

namespace halftone {

TargetSolver::TargetSolver(const Model& model, const std::vector<Target>& targets,
                           const SolveContext& context, const StatisticsStore* from_store,
                           Compressor* compressor)
    : model_(model),
      targets_(targets),
      context_(context),
      from_store_(from_store),
      compressor_(compressor),
      stage_records_(targets.size()) {}

std::optional<ServedStage> TargetSolver::run(const CalibratedStage& seen,
                                             std::vector<StagePacker>& packers,
                                             StatisticsStore* store) {
  const StageSpec& stage = model_.stages()[seen.index];
  if (from_store_ != nullptr) {
    const StageStatistics statistics = load_statistics(*from_store_, stage);
    return solve_all({seen.index, seen.loaded, seen.tensor_amax, statistics, nullptr, seen.steps},
                     packers, nullptr);
  }
  if (store != nullptr) save_statistics(*store, stage, seen.statistics);
  return solve_all(seen, packers, store);
}

std::optional<ServedStage> TargetSolver::solve_all(const CalibratedStage& seen,
                                                   std::vector<StagePacker>& packers,
                                                   StatisticsStore* store) {
  const StageSpec& stage = model_.stages()[seen.index];
  std::optional<ServedStage> served;
  stage_records_.assign(targets_.size(), {});
  for (size_t t = 0; t < targets_.size(); ++t) {
    const TargetPlan& plan = targets_[t].plan;
    const StagePlan& stage_plan = plan.stages[seen.index];
    Choices choices(stage.linears.size());
    const StageSolution solution = solve(seen, plan, choices);
    {
      const Span span(context_.cluster.trace, SpanKind::kPack);
      pack(seen, solution, packers[t]);
    }
    const Json coverage = expert_coverage(stage, seen.statistics, context_.expert_floor);
    if (!coverage.is_null()) {
      stage_records_[t][stage.name] = {{"format", "experts"}, {"expert_coverage", coverage}};
    }
    if (store != nullptr) save_choices(*store, stage, plan.recipe.name, choices);
    if (plan.recipe.propagate == Recipe::Propagate::kQuantized) {
      served = serve(seen, stage_plan, solution);
    }
  }
  return served;
}

void TargetSolver::pack(const CalibratedStage& seen, const StageSolution& solution,
                        StagePacker& packer) const {
  if (compressor_ == nullptr) {
    packer.pack(seen.index, seen.loaded, solution);
    return;
  }
  for (const LoadStep& step : seen.steps) {
    const CompressedStep compressed = compressor_->compress(step, seen.loaded, solution);
    packer.pack(seen.index, seen.loaded, solution, &compressed);
  }
}

StageSolution TargetSolver::solve(const CalibratedStage& seen, const TargetPlan& plan,
                                  Choices& choices) const {
  const Span span(context_.cluster.trace, SpanKind::kSolve);
  const StageSpec& stage = model_.stages()[seen.index];
  const StagePlan& stage_plan = plan.stages[seen.index];
  if (from_store_ != nullptr) {
    choices = plan.searched_as.empty()
                  ? load_choices(*from_store_, stage, plan.recipe.name)
                  : load_choices(*from_store_, stage, plan.searched_as[seen.index]);
    check_statistics(stage, stage_plan, plan.recipe, seen.statistics, choices);
  }
  return solve_calibrated(stage, stage_plan, plan.recipe, seen, context_, choices);
}

ServedStage TargetSolver::serve(const CalibratedStage& seen, const StagePlan& plan,
                                const StageSolution& solution) const {
  const at::ScalarType dtype = scalar_type_of(context_.compute_dtype);
  const StageSpec& stage = model_.stages()[seen.index];
  // `seen` is gone by the time the stage is served; what it speaks of is not.
  return {[&stage, &plan, solution, &loaded = seen.loaded, dtype,
           this](const std::vector<StoredTensor>& tensors) {
            return served_weights(stage, plan, solution, loaded, tensors, dtype, context_);
          },
          make_fake_quant(plan.linears, plan.kv, solution, dtype, context_.cluster.device)};
}

}  // namespace halftone
