#include "model/decoder_layer.h"

#include <ATen/ATen.h>

#include "core/log.h"

namespace halftone {

DecoderLayer::DecoderLayer(const DecoderSpec& model, const LayerSpec& spec,
                           const std::string& prefix, StageBuilder& builder) {
  AttentionBlock attention = make_attention(model, spec.attention, prefix, builder);
  attention_ = std::move(attention.block);
  const int group = add_feed_forward(model, spec.feed_forward, prefix, builder);
  const Norm kind{model.norm, model.epsilon};
  const auto norm = [&](const char* name, int reader) {
    return builder.norm(kind, concat(prefix, ".", name), model.hidden, reader);
  };
  if (attention_) attention_norm_ = norm("input_layernorm", attention.input_group);
  if (model.norms_behind) {
    behind_attention_ = norm("post_attention_layernorm", -1);
    feed_forward_norm_ = norm("pre_feedforward_layernorm", group);
    behind_feed_forward_ = norm("post_feedforward_layernorm", -1);
  } else if (feed_forward_ || experts_) {
    feed_forward_norm_ = norm("post_attention_layernorm", group);
  }
}

int DecoderLayer::add_feed_forward(const DecoderSpec& model, const FeedForwardSpec& spec,
                                   const std::string& prefix, StageBuilder& builder) {
  const std::string name = concat(prefix, ".", spec.name);
  switch (spec.kind) {
    case FeedForwardSpec::Kind::kNone:
      return -1;
    case FeedForwardSpec::Kind::kLinear:
      feed_forward_ = make_linear_block({.name = name + ".linear_mlp",
                                         .out = model.hidden,
                                         .in = model.hidden,
                                         .shard = ShardAxis::kOutput,
                                         .trtllm = model.trtllm ? "mlp_replacing_linear" : ""},
                                        builder);
      return -1;
    case FeedForwardSpec::Kind::kExperts:
      experts_ = std::make_unique<ExpertsBlock>(model, spec, name, builder);
      return -1;
    case FeedForwardSpec::Kind::kGated:
      break;
  }
  GatedPlan plan{.name = name,
                 .hidden = model.hidden,
                 .intermediate = spec.intermediate,
                 .activation = spec.activation,
                 .fused = spec.fused_gate_up,
                 .bias = spec.bias,
                 .folds_into_previous = model.folds_into_previous};
  if (model.trtllm) plan.trtllm = {"mlp.fc", "mlp.gate", "mlp.proj"};
  auto gated = std::make_unique<GatedMlp>(plan, builder);
  const int group = gated->input_group();
  feed_forward_ = std::move(gated);
  return group;
}

void DecoderLayer::forward(const StageCall& call, const StagePart& part,
                           const std::vector<Rope>& ropes, States& states) const {
  const StageWeights& weights = call.weights;
  if (part.first) {
    at::Tensor& x_BTH = states.x;
    if (attention_) {
      const at::Tensor y = attention_->forward(call, attention_norm_(x_BTH, weights), ropes);
      x_BTH = x_BTH + behind_attention_(y, weights);
    }
    if (feed_forward_) {
      const at::Tensor y = feed_forward_->forward(call, feed_forward_norm_(x_BTH, weights), ropes);
      x_BTH = x_BTH + behind_feed_forward_(y, weights);
    }
    if (experts_) {
      states.experts = experts_->begin(call, feed_forward_norm_(x_BTH, weights), x_BTH);
      x_BTH = states.experts.residual_BTH;
    }
  }
  if (!experts_) return;
  experts_->run(call, part.expert_begin, part.expert_end, states.experts);
  if (!part.last) return;
  states.x = ExpertsBlock::finish(states.experts);
  states.experts = {};
}

}  // namespace halftone
