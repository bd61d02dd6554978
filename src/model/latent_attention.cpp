#include <ATen/ATen.h>

#include "model/attention_block.h"

namespace halftone {
namespace {

// Both latents are normalized with this whatever rms_norm_eps is.
constexpr double kLatentEpsilon = 1e-6;

class LatentAttention : public Block {
 public:
  LatentAttention(const DecoderSpec& model, const AttentionSpec& spec, const std::string& name,
                  int group, StageBuilder& builder)
      : spec_(spec) {
    const Norm kind{NormKind::kRms, kLatentEpsilon};
    const int64_t nope_dim = spec.head_dim - spec.rope_dim;
    const int64_t q_size = spec.heads * spec.head_dim;
    cache_ = builder.attention({name, spec.heads, spec.head_dim, spec.value_dim});
    if (spec.q_rank == 0) {
      q_ = builder.linear({.name = name + ".q_proj",
                           .out = q_size,
                           .in = model.hidden,
                           .group = group,
                           .shard = ShardAxis::kOutput});
    } else {
      q_a_ = builder.linear({.name = name + ".q_a_proj",
                             .out = spec.q_rank,
                             .in = model.hidden,
                             .bias = spec.a_bias,
                             .group = group});
      q_norm_ = builder.inner_norm(kind, name + ".q_a_layernorm", spec.q_rank);
      q_ = builder.linear({.name = name + ".q_b_proj",
                           .out = q_size,
                           .in = spec.q_rank,
                           .shard = ShardAxis::kOutput});
    }
    kv_a_ = builder.linear({.name = name + ".kv_a_proj_with_mqa",
                            .out = spec.kv_rank + spec.rope_dim,
                            .in = model.hidden,
                            .bias = spec.a_bias,
                            .group = group});
    kv_norm_ = builder.inner_norm(kind, name + ".kv_a_layernorm", spec.kv_rank);
    kv_b_ = builder.linear({.name = name + ".kv_b_proj",
                            .out = spec.heads * (nope_dim + spec.value_dim),
                            .in = spec.kv_rank,
                            .shard = ShardAxis::kOutput});
    o_ = builder.linear({.name = name + ".o_proj",
                         .out = model.hidden,
                         .in = spec.heads * spec.value_dim,
                         .bias = spec.o_bias,
                         .shard = ShardAxis::kInput});
  }

  at::Tensor forward(const StageCall& call, const at::Tensor& x_BTH,
                     const std::vector<Rope>& ropes) const override {
    const int64_t nope_dim = spec_.head_dim - spec_.rope_dim;
    const Rope& rope = ropes[static_cast<size_t>(spec_.rope)];
    const at::Tensor q_BHTD = split_heads(queries(call, x_BTH), spec_.head_dim);
    const at::Tensor q_rotated = rope.apply(q_BHTD.slice(-1, nope_dim), call.batch);
    // One rotating key for all heads beside the latent of keys and values.
    const at::Tensor latent_BTL = call.linear(kv_a_, x_BTH);
    const at::Tensor k_rotated =
        rope.apply(latent_BTL.slice(-1, spec_.kv_rank).unsqueeze(1), call.batch)
            .expand({-1, spec_.heads, -1, -1});
    const at::Tensor normed_BTL = kv_norm_(latent_BTL.slice(-1, 0, spec_.kv_rank), call.weights);
    const at::Tensor kv_BHTD =
        split_heads(call.linear(kv_b_, normed_BTL), nope_dim + spec_.value_dim);
    const at::Tensor q = at::cat({q_BHTD.slice(-1, 0, nope_dim), q_rotated}, -1);
    const at::Tensor k = at::cat({kv_BHTD.slice(-1, 0, nope_dim), k_rotated}, -1);
    const auto [k_cached, v_cached] = call.runner.key_value(cache_, k, kv_BHTD.slice(-1, nope_dim));
    const at::Tensor mask = attention_mask(call.batch, x_BTH.device(), spec_.reach);
    const at::Tensor attended_BHTD = attention(q, k_cached, v_cached, mask, spec_.scale);
    return call.linear(o_, join_heads(attended_BHTD));
  }

 private:
  at::Tensor queries(const StageCall& call, const at::Tensor& x_BTH) const {
    if (spec_.q_rank == 0) return call.linear(q_, x_BTH);
    return call.linear(q_, q_norm_(call.linear(q_a_, x_BTH), call.weights));
  }

  AttentionSpec spec_;
  size_t q_a_ = 0, q_ = 0, kv_a_ = 0, kv_b_ = 0, o_ = 0;
  size_t cache_ = 0;
  Norm q_norm_, kv_norm_;
};

}  // namespace

AttentionBlock make_latent_attention(const DecoderSpec& model, const AttentionSpec& spec,
                                     const std::string& name, StageBuilder& builder) {
  const int group = builder.new_group();
  return {std::make_unique<LatentAttention>(model, spec, name, group, builder), group};
}

}  // namespace halftone
