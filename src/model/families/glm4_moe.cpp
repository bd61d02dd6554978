// GLM-4.5 and 4.6: grouped-query attention with norms over heads, DeepSeek-V3's experts.
#include "model/decoder_config.h"
#include "model/families/families.h"

namespace halftone {
namespace {

std::unique_ptr<Model> make(const ModelInput& input) {
  const ConfigReader config(input.config, input.source);
  DecoderSpec model =
      read_decoder(config, {.rope = {.partial = 0.5}, .epsilon = 1e-5, .max_positions = 131072});
  expect_activation(config, "hidden_act", "silu");
  set_deepseek_feed_forward(config, model);
  const bool norms = config.flag_or("use_qk_norm", false);
  const bool bias = config.flag_or("attention_bias", false);
  for (LayerSpec& layer : model.layers) {
    if (norms) layer.attention.head_norm = AttentionSpec::HeadNorm::kWeighted;
    layer.attention.qkv_bias = bias;
  }
  return make_decoder(std::move(model), input);
}

}  // namespace

Family glm4_moe_family() {
  return {"glm4-moe", {"Glm4MoeForCausalLM"}, "GLM-4.5, GLM-4.5-Air, GLM-4.6", make, ""};
}

}  // namespace halftone
