// Llama 2 and 3.x: RMS norms, grouped-query attention with rotary embedding, gated SiLU MLP.
#include "model/decoder_config.h"
#include "model/families/families.h"

namespace halftone {
namespace {

std::unique_ptr<Model> make(const ModelInput& input) {
  const ConfigReader config(input.config, input.source);
  DecoderSpec model = read_decoder(config);
  set_intermediate(model, config.size("intermediate_size"));
  expect_activation(config, "hidden_act", "silu");
  const bool attention_bias = config.flag_or("attention_bias", false);
  const bool mlp_bias = config.flag_or("mlp_bias", false);
  for (LayerSpec& layer : model.layers) {
    layer.attention.qkv_bias = layer.attention.o_bias = attention_bias;
    layer.feed_forward.bias = mlp_bias;
  }
  model.folds_into_previous = true;
  model.trtllm = true;
  return make_decoder(std::move(model), input);
}

}  // namespace

Family llama_family() {
  return {
      "llama",
      {"LlamaForCausalLM"},
      "grouped-query attention, gated SiLU MLP",
      {{"Llama 2", R"({"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32,
            "num_key_value_heads": 32, "vocab_size": 32000, "num_hidden_layers": 1})"},
       {"Llama 3, 3.1, 3.2, 3.3",
        R"({"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
            "num_key_value_heads": 8, "vocab_size": 128256, "num_hidden_layers": 1})"}},
      make,
      "llama"};
}

}  // namespace halftone
