// Phi-3, Phi-3.5 and Phi-4: Llama with fused projections, longrope and a partly rotating head.
#include "model/decoder_config.h"
#include "model/families/families.h"

namespace halftone {
namespace {

std::unique_ptr<Model> make(const ModelInput& input) {
  const ConfigReader config(input.config, input.source);
  DecoderSpec model = read_decoder(
      config, {.rope = {.original_max_positions = 4096}, .epsilon = 1e-5, .max_positions = 4096});
  set_intermediate(model, config.size("intermediate_size"));
  set_window(config, model);
  expect_activation(config, "hidden_act", "silu");
  for (const char* key : {"attention_bias", "mlp_bias", "lm_head_bias"}) {
    if (config.flag_or(key, false)) config.fail("'", key, "' must be false in this family");
  }
  for (LayerSpec& layer : model.layers) {
    layer.attention.fused_qkv = true;
    layer.feed_forward.fused_gate_up = true;
  }
  model.trtllm = true;
  return make_decoder(std::move(model), input);
}

}  // namespace

Family phi3_family() {
  return {
      "phi3",
      {"Phi3ForCausalLM"},
      "Llama with fused projections and longrope",
      {{"Phi-3-mini, Phi-3.5-mini",
        R"({"hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 32,
            "num_key_value_heads": 32, "vocab_size": 32064, "num_hidden_layers": 1})"},
       {"Phi-4", R"({"hidden_size": 5120, "intermediate_size": 17920, "num_attention_heads": 40,
            "num_key_value_heads": 10, "vocab_size": 100352, "num_hidden_layers": 1})"},
       {"Phi-4-mini", R"({"hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 24,
            "num_key_value_heads": 8, "vocab_size": 200064, "num_hidden_layers": 1,
            "partial_rotary_factor": 0.75})"}},
      make,
      "phi3"};
}

}  // namespace halftone
