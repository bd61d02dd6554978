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
  return {"glm4-moe",
          {"Glm4MoeForCausalLM"},
          "norms over heads, DeepSeek-V3's experts",
          {{"GLM-4.5, GLM-4.6",
            R"({"hidden_size": 5120, "intermediate_size": 12288, "num_attention_heads": 96,
            "num_key_value_heads": 8, "vocab_size": 151552, "num_hidden_layers": 2,
            "head_dim": 128, "moe_intermediate_size": 1536, "n_routed_experts": 8,
            "num_experts_per_tok": 8, "n_group": 1, "topk_group": 1,
            "n_shared_experts": 1, "first_k_dense_replace": 1, "attention_bias": true,
            "use_qk_norm": true})"},
           {"GLM-4.5-Air",
            R"({"hidden_size": 4096, "intermediate_size": 10944, "num_attention_heads": 96,
            "num_key_value_heads": 8, "vocab_size": 151552, "num_hidden_layers": 2,
            "head_dim": 128, "moe_intermediate_size": 1408, "n_routed_experts": 8,
            "num_experts_per_tok": 8, "n_group": 1, "topk_group": 1,
            "n_shared_experts": 1, "first_k_dense_replace": 1, "attention_bias": true,
            "use_qk_norm": true})"}},
          make,
          ""};
}

}  // namespace halftone
