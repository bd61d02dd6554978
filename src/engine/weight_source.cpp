#include "engine/weight_source.h"

#include <ATen/ATen.h>

#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

class OriginalSource : public WeightSource {
 public:
  explicit OriginalSource(const SourceLayout& source) : source_(source) {}

  const std::vector<std::vector<StoredTensor>>& tensors() const override {
    return source_.stages();
  }

  StageWeights weights(size_t /*stage*/, const LoadedStage& loaded, at::ScalarType dtype,
                       ThreadPool& /*pool*/) override {
    // Not through the model's dtype: it would round what low bits stand for.
    StageWeights weights;
    for (const StoredTensor& stored : loaded.tensors()) {
      weights.set(stored.name, loaded.tensor_as(stored.name, dtype));
    }
    return weights;
  }

  std::unique_ptr<LinearRunner> make_runner(size_t /*stage*/) const override {
    return std::make_unique<PlainRunner>();
  }

 private:
  const SourceLayout& source_;
};

// Packs and unpacks every weight as the exporter would store it, or unpacks what is held so.
class FakeQuantSource : public WeightSource {
 public:
  FakeQuantSource(const SourceLayout& source, const Model& model, const TargetPlan& plan,
                  std::vector<StageSolution> solutions, const SolveContext& context,
                  std::unique_ptr<Compressor> compressor)
      : source_(source),
        model_(model),
        plan_(plan),
        solutions_(std::move(solutions)),
        context_(context),
        compressor_(std::move(compressor)) {
    for (size_t s = 0; s < plan.stages.size(); ++s) {
      stages_.push_back(make_fake_quant(plan.stages[s].linears, plan.stages[s].kv, solutions_[s],
                                        scalar_type_of(context.compute_dtype),
                                        context.cluster.device));
    }
  }

  const std::vector<std::vector<StoredTensor>>& tensors() const override {
    return source_.stages();
  }

  StageWeights weights(size_t stage, const LoadedStage& loaded, at::ScalarType dtype,
                       ThreadPool& /*pool*/) override {
    if (compressor_) return compressor_->weights(stage, loaded, dtype);
    return served_weights(model_.stages()[stage], plan_.stages[stage], solutions_[stage], loaded,
                          loaded.tensors(), dtype, context_);
  }

  std::unique_ptr<LinearRunner> make_runner(size_t stage) const override {
    return std::make_unique<FakeQuantRunner>(stages_[stage]);
  }

 private:
  const SourceLayout& source_;
  const Model& model_;
  TargetPlan plan_;
  std::vector<StageSolution> solutions_;
  SolveContext context_;
  std::unique_ptr<Compressor> compressor_;
  std::vector<StageFakeQuant> stages_;
};

}  // namespace

std::unique_ptr<WeightSource> make_original_source(const SourceLayout& source) {
  return std::make_unique<OriginalSource>(source);
}

std::vector<StageSolution> calibrate_model(const SourceLayout& source, Model& model,
                                           const TargetPlan& plan,
                                           const std::vector<Batch>& batches,
                                           const CalibrationOptions& options,
                                           const SolveContext& context, Compressor* compressor) {
  const Cluster& cluster = context.cluster;
  CalibrationOptions observed = options;
  observed.observe = what_to_observe(model, {&plan}, /*complete=*/false);
  observed.propagate_quantized = plan.recipe.propagate == Recipe::Propagate::kQuantized;
  std::vector<StageSolution> solutions;
  run_calibration(source, model, batches, observed, cluster,
                  [&](const CalibratedStage& seen) -> std::optional<ServedStage> {
                    const StageSpec& stage = model.stages()[seen.index];
                    const StagePlan& stage_plan = plan.stages[seen.index];
                    Choices choices;
                    solutions.push_back(
                        solve_calibrated(stage, stage_plan, plan.recipe, seen, context, choices));
                    for (const LoadStep& step : seen.steps) {
                      if (compressor == nullptr) break;
                      compressor->compress(step, seen.loaded, solutions.back());
                    }
                    if (!observed.propagate_quantized) return std::nullopt;
                    const at::ScalarType dtype = scalar_type_of(options.compute_dtype);
                    return ServedStage{
                        [&stage, &stage_plan, solution = solutions.back(), &loaded = seen.loaded,
                         dtype, context](const std::vector<StoredTensor>& tensors) {
                          return served_weights(stage, stage_plan, solution, loaded, tensors, dtype,
                                                context);
                        },
                        make_fake_quant(stage_plan.linears, stage_plan.kv, solutions.back(), dtype,
                                        cluster.device)};
                  });
  return solutions;
}

std::unique_ptr<WeightSource> make_fake_quant_source(const SourceLayout& source, const Model& model,
                                                     const TargetPlan& plan,
                                                     std::vector<StageSolution> solutions,
                                                     const SolveContext& context,
                                                     std::unique_ptr<Compressor> compressor) {
  return std::make_unique<FakeQuantSource>(source, model, plan, std::move(solutions), context,
                                           std::move(compressor));
}

}  // namespace halftone
