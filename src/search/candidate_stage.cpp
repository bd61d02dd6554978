#include "search/candidate_stage.h"

#include <ATen/ATen.h>

#include <map>

#include "engine/store_stage.h"
#include "formats/tensor_bridge.h"
#include "kernels/check.h"

namespace halftone {
namespace {

const std::string kSourceAmax = "source_amax";

std::map<std::string, float> weight_amaxes(const StatisticsStore& store, const StageSpec& stage) {
  std::map<std::string, float> amaxes;
  for (const LinearSite& linear : stage.linears) {
    amaxes[linear.weight] = store.values(linear.name, kSourceAmax).values.at(0);
  }
  return amaxes;
}

StageSolution solve(const StageSpec& stage, size_t index, const StagePlan& plan,
                    const Recipe& recipe, const LoadedStage& loaded, const StatisticsStore& store,
                    const SolveContext& context) {
  const StageStatistics statistics = load_statistics(store, stage);
  const std::map<std::string, float> amaxes = weight_amaxes(store, stage);
  Choices choices = load_choices(store, stage, recipe.name);
  return solve_calibrated(stage, plan, recipe, {index, loaded, amaxes, statistics, nullptr, {}},
                          context, choices);
}

}  // namespace

void save_weight_amaxes(StatisticsStore& store, const StageSpec& stage,
                        const std::map<std::string, float>& tensor_amax) {
  for (const LinearSite& linear : stage.linears) {
    store.set_values(linear.name, kSourceAmax, {tensor_amax.at(linear.weight)}, {});
  }
}

StagePlan without_folding(StagePlan plan) {
  for (LinearFormat& format : plan.linears) {
    if (format.pre_quant_scale != PreQuantScale::kNone) {
      format.pre_quant_scale = PreQuantScale::kStored;
    }
  }
  return plan;
}

CandidateStage::CandidateStage(const StageSpec& stage, size_t index, const CandidatePlan& plan,
                               const LoadedStage& loaded, const StatisticsStore& store,
                               const SolveContext& context)
    : stage_(stage),
      plan_(without_folding(plan.target.stages[index])),
      context_(context),
      solution_(solve(stage, index, plan_, plan.target.recipe, loaded, store, context)),
      fake_quant_(make_fake_quant(plan_.linears, {}, solution_,
                                  scalar_type_of(context.compute_dtype), context.cluster.device)),
      packed_(stage.linears.size()) {}

void CandidateStage::pack(const std::vector<StoredTensor>& tensors, const LoadedStage& loaded) {
  std::map<std::string, size_t> linear_of;
  for (size_t i = 0; i < stage_.linears.size(); ++i) {
    packed_[i].reset();
    if (plan_.linears[i].quantized()) linear_of[stage_.linears[i].weight] = i;
  }
  const at::ScalarType dtype = scalar_type_of(context_.model_dtype);
  for (const StoredTensor& stored : tensors) {
    const auto found = linear_of.find(stored.name);
    if (found == linear_of.end()) continue;
    const size_t i = found->second;
    const at::Tensor w_NK =
        edited_weight(solution_.linears[i], loaded.tensor(stored.name).to(dtype));
    packed_[i] = pack_linear(plan_.linears[i], solution_.linears[i], w_NK, context_.numerics,
                             &context_.cluster.pool);
  }
}

at::Tensor CandidateStage::weight(size_t linear, ThreadPool* pool) const {
  check(has(linear), "a candidate's weight is packed before it is used");
  return plan_.linears[linear].codec->unpack(*packed_[linear],
                                             scalar_type_of(context_.compute_dtype), pool);
}

at::Tensor CandidateStage::run(size_t linear, const at::Tensor& x, const at::Tensor& w_NK,
                               const at::Tensor& bias_N) const {
  return FakeQuantRunner(fake_quant_).linear(linear, x, w_NK, bias_N);
}

}  // namespace halftone
