#include "model/attention_block.h"

#include <ATen/ATen.h>

namespace halftone {
namespace {

using HeadNorm = AttentionSpec::HeadNorm;

// Llama 4's: x / sqrt(mean(x^2) + epsilon) over each head, without a weight.
at::Tensor l2_norm(const at::Tensor& x_BHTD, double epsilon) {
  const at::Tensor wide = x_BHTD.to(at::kFloat);
  return (wide * at::rsqrt(wide.pow(2).mean(-1, /*keepdim=*/true) + epsilon))
      .to(x_BHTD.scalar_type());
}

class LinearBlock : public Block {
 public:
  explicit LinearBlock(size_t site) : site_(site) {}
  at::Tensor forward(const StageCall& call, const at::Tensor& x_BTH,
                     const std::vector<Rope>& /*ropes*/) const override {
    return call.linear(site_, x_BTH);
  }

 private:
  size_t site_;
};

class HeadsAttention : public Block {
 public:
  HeadsAttention(const DecoderSpec& model, const AttentionSpec& spec, const std::string& name,
                 int group, StageBuilder& builder)
      : spec_(spec), epsilon_(model.epsilon) {
    const int64_t q_size = spec.heads * spec.head_dim;
    const int64_t kv_size = spec.kv_heads * spec.head_dim;
    const auto add = [&](const std::string& part, int64_t out, int in_group) {
      return builder.linear({.name = name + part,
                             .out = out,
                             .in = model.hidden,
                             .bias = spec.qkv_bias,
                             .group = in_group,
                             .shard = ShardAxis::kOutput,
                             .trtllm = model.trtllm ? "attention.qkv" : ""});
    };
    cache_ = builder.attention({name, spec.kv_heads, spec.head_dim, spec.head_dim});
    if (spec.sinks) {
      sinks_ = name + ".sinks";
      builder.tensor({sinks_, {spec.heads}});
    }
    if (spec.fused_qkv) {
      q_ = add(".qkv_proj", q_size + 2 * kv_size, -1);
    } else {
      q_ = add(".q_proj", q_size, group);
      k_ = add(".k_proj", kv_size, group);
      v_ = add(".v_proj", kv_size, group);
    }
    o_ = builder.linear({.name = name + ".o_proj",
                         .out = model.hidden,
                         .in = q_size,
                         .bias = spec.o_bias,
                         .shard = ShardAxis::kInput,
                         .trtllm = model.trtllm ? "attention.dense" : ""});
    if (model.folds_into_previous && !spec.fused_qkv) builder.set_previous(o_, v_);
    if (spec.head_norm == HeadNorm::kWeighted) {
      const Norm kind{model.norm, model.epsilon};
      q_norm_ = builder.inner_norm(kind, name + ".q_norm", spec.head_dim);
      k_norm_ = builder.inner_norm(kind, name + ".k_norm", spec.head_dim);
    }
  }

  at::Tensor forward(const StageCall& call, const at::Tensor& x_BTH,
                     const std::vector<Rope>& ropes) const override {
    auto [q_BHTD, k_BGTD, v_BGTD] = heads(call, x_BTH);
    q_BHTD = q_norm_(q_BHTD, call.weights);
    k_BGTD = k_norm_(k_BGTD, call.weights);
    if (spec_.rope >= 0) {
      q_BHTD = ropes[static_cast<size_t>(spec_.rope)].apply(q_BHTD, call.batch);
      k_BGTD = ropes[static_cast<size_t>(spec_.rope)].apply(k_BGTD, call.batch);
    }
    if (spec_.head_norm == HeadNorm::kL2BehindRope) {
      q_BHTD = l2_norm(q_BHTD, epsilon_);
      k_BGTD = l2_norm(k_BGTD, epsilon_);
    }
    if (spec_.temperature != 0.0) q_BHTD = temper(q_BHTD, call.batch);
    const auto [k_cached, v_cached] = call.runner.key_value(cache_, k_BGTD, v_BGTD);
    const at::Tensor mask = attention_mask(call.batch, x_BTH.device(), spec_.reach);
    const at::Tensor attended_BHTD =
        sinks_.empty() ? attention(q_BHTD, k_cached, v_cached, mask, spec_.scale)
                       : attention_with_sinks(q_BHTD, k_cached, v_cached, mask, spec_.scale,
                                              call.weights.at(sinks_));
    return call.linear(o_, join_heads(attended_BHTD));
  }

 private:
  struct Heads {
    at::Tensor q, k, v;
  };
  Heads heads(const StageCall& call, const at::Tensor& x_BTH) const {
    const int64_t dim = spec_.head_dim;
    if (!spec_.fused_qkv) {
      const at::Tensor q = split_heads(call.linear(q_, x_BTH), dim);
      const at::Tensor k = split_heads(call.linear(k_, x_BTH), dim);
      return {q, k, split_heads(call.linear(v_, x_BTH), dim)};
    }
    const at::Tensor all = split_heads(call.linear(q_, x_BTH), dim);
    const std::vector<at::Tensor> parts =
        all.split_with_sizes({spec_.heads, spec_.kv_heads, spec_.kv_heads}, 1);
    return {parts[0], parts[1], parts[2]};
  }

  at::Tensor temper(const at::Tensor& q_BHTD, const BatchContext& batch) const {
    at::Tensor positions_BT = batch.positions_BT;
    if (!positions_BT.defined()) {
      positions_BT = at::arange(batch.past, batch.past + batch.length, at::kLong).unsqueeze(0);
    }
    const at::Tensor count_BT = positions_BT.to(q_BHTD.device(), at::kFloat) + 1.0;
    const at::Tensor scale_BT =
        (count_BT / spec_.temperature_floor).floor().log1p() * spec_.temperature + 1.0;
    return (q_BHTD * scale_BT.unsqueeze(1).unsqueeze(3)).to(q_BHTD.scalar_type());
  }

  AttentionSpec spec_;
  double epsilon_;
  size_t q_ = 0, k_ = 0, v_ = 0, o_ = 0;  // q_: all three where they are one tensor
  size_t cache_ = 0;
  std::string sinks_;
  Norm q_norm_, k_norm_;
};

}  // namespace

at::Tensor split_heads(const at::Tensor& x_BTK, int64_t dim) {
  return x_BTK.view({x_BTK.size(0), x_BTK.size(1), -1, dim}).transpose(1, 2);
}

at::Tensor join_heads(const at::Tensor& x_BHTD) {
  return x_BHTD.transpose(1, 2).contiguous().view({x_BHTD.size(0), x_BHTD.size(2), -1});
}

std::unique_ptr<Block> make_linear_block(const LinearPlan& plan, StageBuilder& builder) {
  return std::make_unique<LinearBlock>(builder.linear(plan));
}

AttentionBlock make_attention(const DecoderSpec& model, const AttentionSpec& spec,
                              const std::string& prefix, StageBuilder& builder) {
  const std::string name = prefix + ".self_attn";
  switch (spec.kind) {
    case AttentionSpec::Kind::kNone:
      return {};
    case AttentionSpec::Kind::kLinear:
      return {make_linear_block({.name = name + ".linear_attn",
                                 .out = model.hidden,
                                 .in = model.hidden,
                                 .shard = ShardAxis::kOutput,
                                 .trtllm = model.trtllm ? "attn_replacing_linear" : ""},
                                builder)};
    case AttentionSpec::Kind::kLatent:
      return make_latent_attention(model, spec, name, builder);
    case AttentionSpec::Kind::kHeads:
      break;
  }
  const int group = spec.fused_qkv ? -1 : builder.new_group();
  return {std::make_unique<HeadsAttention>(model, spec, name, group, builder), group};
}

}  // namespace halftone
