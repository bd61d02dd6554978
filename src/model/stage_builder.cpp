#include "model/stage_builder.h"

namespace halftone {

StageBuilder::StageBuilder(const std::string& name, StageKind kind) {
  stage_.name = name;
  stage_.kind = kind;
}

size_t StageBuilder::linear(const LinearPlan& plan) {
  LinearSite site;
  site.name = plan.name;
  site.out = plan.out;
  site.in = plan.in;
  site.weight = plan.name + ".weight";
  if (plan.bias) site.bias = plan.name + ".bias";
  site.fused_group = plan.group;
  site.expert = plan.expert;
  site.role = plan.role;
  site.stacked = plan.stacked;
  site.shard = plan.shard;
  site.trtllm = plan.trtllm;
  TensorNeed weight{site.weight, {plan.out, plan.in}, plan.expert};
  TensorNeed bias{site.bias, {plan.out}, plan.expert};
  if (!plan.stacked.empty()) {
    weight.stacked = {plan.stacked, plan.expert, plan.stack, /*input_major=*/true};
    bias.stacked = {plan.stacked + "_bias", plan.expert, plan.stack, /*input_major=*/false};
  }
  tensor(std::move(weight));
  if (plan.bias) tensor(std::move(bias));
  stage_.linears.push_back(std::move(site));
  return stage_.linears.size() - 1;
}

size_t StageBuilder::attention(AttentionSite site) {
  stage_.attentions.push_back(std::move(site));
  return stage_.attentions.size() - 1;
}

Norm StageBuilder::named(const Norm& kind, const std::string& name, int64_t size,
                         std::vector<TensorNeed>& tensors) {
  Norm norm = kind;
  norm.weight = name + ".weight";
  tensors.push_back({norm.weight, {size}});
  if (kind.kind == NormKind::kLayer) {
    norm.bias = name + ".bias";
    tensors.push_back({norm.bias, {size}});
  }
  return norm;
}

Norm StageBuilder::norm(const Norm& kind, const std::string& name, int64_t size, int group) {
  Norm norm = named(kind, name, size, last_tensors_);
  const bool adds_one = kind.kind == NormKind::kRmsPlusOne;
  if (group >= 0) stage_.norms.push_back({norm.weight, norm.bias, group, adds_one});
  return norm;
}

Norm StageBuilder::inner_norm(const Norm& kind, const std::string& name, int64_t size) {
  return named(kind, name, size, stage_.tensors);
}

void StageBuilder::set_previous(size_t site, size_t previous) {
  stage_.linears[site].previous = static_cast<int>(previous);
}

StageSpec StageBuilder::finish() {
  for (TensorNeed& need : last_tensors_) tensor(std::move(need));
  return std::move(stage_);
}

at::Tensor StageCall::linear(size_t site, const at::Tensor& x) const {
  const LinearSite& linear = stage.linears[site];
  return runner.linear(site, x, weights.at(linear.weight), weights.get(linear.bias));
}

}  // namespace halftone
