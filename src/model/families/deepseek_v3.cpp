// DeepSeek-V3 and R1, Moonlight, Kimi K2: latent attention, experts chosen within groups.
#include <cmath>

#include "model/decoder_config.h"
#include "model/families/families.h"

namespace halftone {
namespace {

// YaRN's temperature acts on the scores (DeepSeek-V2, 2405.04434, section 3.1.4).
double score_scale(const RopeConfig& rope, int64_t head_dim) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  if (rope.kind == RopeConfig::Kind::kDefault || rope.mscale_all_dim == 0.0) return scale;
  if (rope.factor <= 1.0) return scale;
  const double temperature = 0.1 * rope.mscale_all_dim * std::log(rope.factor) + 1.0;
  return scale * temperature * temperature;
}

AttentionSpec read_latent(const ConfigReader& config) {
  AttentionSpec attention;
  attention.kind = AttentionSpec::Kind::kLatent;
  attention.heads = attention.kv_heads = config.size("num_attention_heads");
  attention.rope_dim = config.size("qk_rope_head_dim");
  attention.head_dim = config.size("qk_nope_head_dim") + attention.rope_dim;
  attention.value_dim = config.size("v_head_dim");
  attention.kv_rank = config.size("kv_lora_rank");
  attention.q_rank = config.size_or("q_lora_rank", 0);
  attention.a_bias = attention.o_bias = config.flag_or("attention_bias", false);
  return attention;
}

std::unique_ptr<Model> make(const ModelInput& input) {
  const ConfigReader config(input.config, input.source);
  AttentionSpec attention = read_latent(config);
  // head_dim, where it is given, is that of the rotating part.
  DecoderSpec model = read_decoder(config, {.max_positions = 4096, .head_dim = attention.rope_dim});
  RopeSpec& rope = model.ropes.front();
  attention.scale = score_scale(rope.config, attention.head_dim);
  rope.dim = rotary_dim(rope.config, attention.rope_dim, config.source());
  if (config.flag_or("rope_interleave", true)) rope.layout = RopeLayout::kPairsToHalves;
  expect_activation(config, "hidden_act", "silu");
  set_deepseek_feed_forward(config, model);
  for (LayerSpec& layer : model.layers) layer.feed_forward.experts.averages_scales = false;
  for (LayerSpec& layer : model.layers) layer.attention = attention;
  return make_decoder(std::move(model), input);
}

}  // namespace

Family deepseek_v3_family() {
  return {"deepseek-v3",
          {"DeepseekV3ForCausalLM"},
          "latent attention, experts chosen within groups",
          {{"DeepSeek-V3, DeepSeek-R1", R"({"hidden_size": 7168, "intermediate_size": 18432,
            "moe_intermediate_size": 2048, "num_attention_heads": 128,
            "vocab_size": 129280, "num_hidden_layers": 2, "q_lora_rank": 1536,
            "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
            "v_head_dim": 128, "n_routed_experts": 16, "num_experts_per_tok": 8,
            "n_group": 8, "topk_group": 4, "n_shared_experts": 1,
            "first_k_dense_replace": 1})"},
           {"Moonlight", R"({"hidden_size": 2048, "intermediate_size": 11264,
            "moe_intermediate_size": 1408, "num_attention_heads": 16,
            "vocab_size": 163840, "num_hidden_layers": 2, "q_lora_rank": null,
            "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
            "v_head_dim": 128, "n_routed_experts": 16, "num_experts_per_tok": 6,
            "n_group": 1, "topk_group": 1, "n_shared_experts": 2,
            "first_k_dense_replace": 1})"},
           {"Kimi K2", R"({"hidden_size": 7168, "intermediate_size": 18432,
            "moe_intermediate_size": 2048, "num_attention_heads": 64,
            "vocab_size": 163840, "num_hidden_layers": 2, "q_lora_rank": 1536,
            "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
            "v_head_dim": 128, "n_routed_experts": 16, "num_experts_per_tok": 8,
            "n_group": 1, "topk_group": 1, "n_shared_experts": 1,
            "first_k_dense_replace": 1})"}},
          make,
          ""};
}

}  // namespace halftone
