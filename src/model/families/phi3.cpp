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
  return {"phi3", {"Phi3ForCausalLM"}, "Phi-3, Phi-3.5-mini, Phi-4, Phi-4-mini", make, "phi3"};
}

}  // namespace halftone
