#include "model/feed_forward.h"

#include <ATen/ATen.h>

#include "core/log.h"

namespace halftone {

GatedMlp::GatedMlp(const GatedPlan& plan, StageBuilder& builder)
    : fused_(plan.fused), activation_(plan.activation) {
  const auto add = [&](size_t part, int64_t out, int64_t in, int group, ShardAxis shard) {
    return builder.linear({.name = concat(plan.name, ".", plan.linears[part]),
                           .out = out,
                           .in = in,
                           .bias = plan.bias,
                           .group = group,
                           .shard = shard,
                           .trtllm = plan.trtllm[part],
                           .expert = plan.expert,
                           .role = plan.expert < 0 ? "" : plan.linears[part]});
  };
  if (fused_) {
    gate_ = builder.linear({.name = plan.name + ".gate_up_proj",
                            .out = 2 * plan.intermediate,
                            .in = plan.hidden,
                            .bias = plan.bias,
                            .shard = ShardAxis::kOutput,
                            .trtllm = plan.trtllm[0]});
  } else {
    group_ = builder.new_group();
    gate_ = add(0, plan.intermediate, plan.hidden, group_, ShardAxis::kOutput);
    up_ = add(1, plan.intermediate, plan.hidden, group_, ShardAxis::kOutput);
  }
  down_ = add(2, plan.hidden, plan.intermediate, -1, ShardAxis::kInput);
  if (plan.folds_into_previous && !fused_) builder.set_previous(down_, up_);
}

at::Tensor GatedMlp::run(const StageCall& call, const at::Tensor& x) const {
  if (fused_) {
    const std::vector<at::Tensor> halves = call.linear(gate_, x).chunk(2, -1);
    return call.linear(down_, activate(halves[0], activation_) * halves[1]);
  }
  const at::Tensor gate = call.linear(gate_, x);
  const at::Tensor up = call.linear(up_, x);
  return call.linear(down_, activate(gate, activation_) * up);
}

}  // namespace halftone
