#include "model/experts.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/log.h"

namespace halftone {
namespace {

// The positions, among all B * T, of the tokens that are routed; undefined: all.
at::Tensor routed_positions(const BatchContext& batch, at::Device device) {
  if (!batch.padded || batch.route_padding) return {};
  std::vector<int64_t> positions;
  for (size_t row = 0; row < batch.tokens.size(); ++row) {
    const int64_t offset = static_cast<int64_t>(row) * batch.length - batch.past;
    for (int64_t t = std::max(batch.tokens[row].begin, batch.past); t < batch.tokens[row].end;
         ++t) {
      positions.push_back(offset + t);
    }
  }
  return at::tensor(positions, at::kLong).to(device);
}

// The slots (places in ids_TK, row by row) that each expert serves.
struct Assignment {
  at::Tensor slots;             // of expert 0, then 1, ...; of each first the chosen ones
  std::vector<int64_t> begins;  // 2e: the chosen of expert e, 2e + 1: those that only observe
};

Assignment assign(const at::Tensor& ids_TK, int64_t chosen, int64_t experts) {
  const at::Tensor column_K = at::arange(ids_TK.size(1), ids_TK.options());
  const at::Tensor key = (ids_TK * 2 + (column_K >= chosen)).flatten();
  const at::Tensor counts = at::bincount(key, {}, 2 * experts).cpu();
  Assignment assignment{at::argsort(key, /*stable=*/true, 0, /*descending=*/false), {0}};
  for (int64_t i = 0; i < 2 * experts; ++i) {
    assignment.begins.push_back(assignment.begins.back() + counts.const_data_ptr<int64_t>()[i]);
  }
  return assignment;
}

}  // namespace

ExpertsBlock::ExpertsBlock(const DecoderSpec& model, const FeedForwardSpec& spec,
                           const std::string& name, StageBuilder& builder)
    : spec_(spec.experts), activation_(spec.activation) {
  builder.experts(spec_.router.experts, spec_.router.top_k, spec_.averages_scales);
  router_ = concat(name, ".", spec_.router_name);
  builder.plain_module(router_);
  builder.tensor({router_ + ".weight", {spec_.router.experts, model.hidden}});
  if (spec_.router_bias) builder.tensor({router_ + ".bias", {spec_.router.experts}});
  if (spec_.correction_bias) {
    correction_ = router_ + ".e_score_correction_bias";
    builder.tensor({correction_, {spec_.router.experts}, -1, /*keeps_dtype=*/true});
  }
  if (spec_.storage == ExpertsSpec::Storage::kStacked) {
    add_stacked(model, name, builder);
  } else {
    add_separate(model, spec, name, builder);
  }
  if (spec_.shared_intermediate == 0) return;
  GatedPlan plan{.name = concat(name, ".", spec_.shared_name),
                 .hidden = model.hidden,
                 .intermediate = spec_.shared_intermediate,
                 .activation = activation_};
  if (model.trtllm) {
    plan.trtllm = {"mlp.shared_expert.fc", "mlp.shared_expert.fc", "mlp.shared_expert.proj"};
  }
  shared_.emplace(plan, builder);
  if (spec_.shared_gate_name.empty()) return;
  shared_gate_ = concat(name, ".", spec_.shared_gate_name);
  builder.plain_module(shared_gate_);
  builder.tensor({shared_gate_ + ".weight", {1, model.hidden}});
}

void ExpertsBlock::add_separate(const DecoderSpec& model, const FeedForwardSpec& spec,
                                const std::string& name, StageBuilder& builder) {
  for (int64_t e = 0; e < spec_.router.experts; ++e) {
    GatedPlan plan{.name = concat(name, ".experts.", e),
                   .hidden = model.hidden,
                   .intermediate = spec_.intermediate,
                   .activation = spec.activation,
                   .bias = spec_.bias,
                   .folds_into_previous = model.folds_into_previous,
                   .linears = spec_.linears,
                   .expert = static_cast<int>(e)};
    if (model.trtllm) plan.trtllm = {"mlp.fc", "mlp.fc", "mlp.proj"};
    separate_.emplace_back(plan, builder);
  }
}

void ExpertsBlock::add_stacked(const DecoderSpec& model, const std::string& name,
                               StageBuilder& builder) {
  const std::string container = name + ".experts";
  for (int64_t e = 0; e < spec_.router.experts; ++e) {
    const auto add = [&](const std::string& role, int64_t out, int64_t in, ShardAxis shard) {
      return builder.linear({.name = concat(container, ".", e, ".", role),
                             .out = out,
                             .in = in,
                             .bias = spec_.bias,
                             .shard = shard,
                             .expert = static_cast<int>(e),
                             .role = role,
                             .stacked = concat(container, ".", role),
                             .stack = spec_.router.experts});
    };
    Stacked sites;
    sites.gate_up = add("gate_up_proj", 2 * spec_.intermediate, model.hidden, ShardAxis::kOutput);
    sites.down = add("down_proj", model.hidden, spec_.intermediate, ShardAxis::kInput);
    stacked_.push_back(sites);
  }
}

Routing ExpertsBlock::choose(const StageCall& call, const at::Tensor& x_TH) const {
  at::Tensor weight_EH = call.weights.at(router_ + ".weight");
  at::Tensor x = x_TH;
  if (routes_in_fp32(spec_.router)) {
    weight_EH = weight_EH.to(at::kFloat);
    x = x.to(at::kFloat);
  }
  const at::Tensor logits_TE = at::linear(x, weight_EH, call.weights.get(router_ + ".bias"));
  at::Tensor correction_E;
  if (!correction_.empty()) correction_E = call.weights.at(correction_).to(at::kFloat);
  return route(spec_.router, logits_TE, correction_E);
}

ExpertStates ExpertsBlock::begin(const StageCall& call, const at::Tensor& x_BTH,
                                 const at::Tensor& residual_BTH) const {
  ExpertStates states;
  states.positions_T = routed_positions(call.batch, x_BTH.device());
  states.x_TH = x_BTH.reshape({-1, x_BTH.size(-1)});
  if (states.positions_T.defined()) {
    states.x_TH = states.x_TH.index_select(0, states.positions_T);
  }
  Routing routing = choose(call, states.x_TH);
  call.runner.routed(routing.ids_TK, routing.weights_TK);
  const double observed = call.batch.observed_experts * static_cast<double>(spec_.router.experts);
  routing = widen(spec_.router, routing, std::llround(observed));
  states.ids_TK = routing.ids_TK;
  states.weights_TK = routing.weights_TK;
  states.residual_BTH = residual_BTH;
  states.sum_TH = at::zeros_like(states.x_TH, at::kFloat);
  if (!shared_) return states;
  at::Tensor shared_BTH = shared_->run(call, x_BTH);
  if (!shared_gate_.empty()) {
    shared_BTH =
        at::linear(x_BTH, call.weights.at(shared_gate_ + ".weight")).sigmoid() * shared_BTH;
  }
  states.shared_BTH = shared_BTH;
  return states;
}

void ExpertsBlock::run(const StageCall& call, int64_t begin, int64_t end,
                       ExpertStates& states) const {
  const Assignment assignment = assign(states.ids_TK, spec_.router.top_k, spec_.router.experts);
  const int64_t width = states.ids_TK.size(1);
  const at::Tensor weights = states.weights_TK.flatten().unsqueeze(1);
  // Another call may start from the same sum.
  at::Tensor sum_TH = states.sum_TH.clone();
  for (int64_t e = begin; e < std::min(end, spec_.router.experts); ++e) {
    const int64_t* at = assignment.begins.data() + 2 * e;
    const int64_t chosen = at[1] - at[0];
    if (at[2] == at[0]) continue;
    const at::Tensor slots = assignment.slots.slice(0, at[0], at[2]);
    const at::Tensor rows = at::div(slots, width, "floor");
    at::Tensor x_TH = states.x_TH.index_select(0, rows);
    const at::Tensor weights_T1 = weights.index_select(0, slots);
    if (spec_.weighs_input) x_TH = (x_TH * weights_T1).to(x_TH.scalar_type());
    at::Tensor y_TH = expert(call, e, x_TH).slice(0, 0, chosen);
    if (chosen == 0) continue;
    if (!spec_.weighs_input) y_TH = y_TH * weights_T1.slice(0, 0, chosen);
    // Every row occurs once: no addition depends on an order.
    const at::Tensor own = rows.slice(0, 0, chosen);
    sum_TH.index_copy_(0, own, sum_TH.index_select(0, own) + y_TH);
  }
  states.sum_TH = sum_TH;
}

at::Tensor ExpertsBlock::expert(const StageCall& call, int64_t index,
                                const at::Tensor& x_TH) const {
  const auto i = static_cast<size_t>(index);
  if (stacked_.empty()) return separate_[i].run(call, x_TH);
  return call.linear(stacked_[i].down, gated(call.linear(stacked_[i].gate_up, x_TH)));
}

at::Tensor ExpertsBlock::gated(const at::Tensor& gate_up) const {
  if (spec_.gate == ExpertsSpec::Gate::kPlain) {
    const std::vector<at::Tensor> halves = gate_up.chunk(2, -1);
    return activate(halves[0], activation_) * halves[1];
  }
  const at::Tensor gate = gate_up.slice(-1, 0, std::nullopt, 2).clamp_max(spec_.limit);
  const at::Tensor up = gate_up.slice(-1, 1, std::nullopt, 2).clamp(-spec_.limit, spec_.limit);
  return (up + 1.0) * (gate * at::sigmoid(gate * 1.702));
}

at::Tensor ExpertsBlock::finish(const ExpertStates& states) {
  const at::Tensor& residual_BTH = states.residual_BTH;
  at::Tensor sum_TH = states.sum_TH.to(residual_BTH.scalar_type());
  if (states.positions_T.defined()) {
    const int64_t positions = residual_BTH.size(0) * residual_BTH.size(1);
    sum_TH = at::zeros({positions, residual_BTH.size(2)}, sum_TH.options())
                 .index_copy(0, states.positions_T, sum_TH);
  }
  const at::Tensor sum_BTH = sum_TH.view(residual_BTH.sizes());
  // In the order of transformers, since rounding shows in BF16.
  return residual_BTH + (states.shared_BTH.defined() ? sum_BTH + states.shared_BTH : sum_BTH);
}

}  // namespace halftone
