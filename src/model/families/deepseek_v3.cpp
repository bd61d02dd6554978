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
          "DeepSeek-V3, DeepSeek-R1, Moonlight, Kimi K2",
          make,
          ""};
}

}  // namespace halftone
