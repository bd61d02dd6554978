// Qwen2, Qwen2.5, QwQ: Llama with biases at q, k and v.
#include "model/decoder_config.h"
#include "model/families/families.h"

namespace halftone {
namespace {

std::unique_ptr<Model> make(const ModelInput& input) {
  const ConfigReader config(input.config, input.source);
  DecoderSpec model = read_decoder(config, {.max_positions = 32768});
  set_intermediate(model, config.size("intermediate_size"));
  set_qwen_windows(config, model);
  expect_activation(config, "hidden_act", "silu");
  for (LayerSpec& layer : model.layers) layer.attention.qkv_bias = true;
  model.trtllm = true;
  return make_decoder(std::move(model), input);
}

}  // namespace

Family qwen2_family() {
  return {"qwen2",
          {"Qwen2ForCausalLM"},
          "Llama with biases at q, k and v",
          {{"Qwen2, Qwen2.5",
            R"({"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28,
            "num_key_value_heads": 4, "vocab_size": 152064, "num_hidden_layers": 1})"},
           {"QwQ", R"({"hidden_size": 5120, "intermediate_size": 27648, "num_attention_heads": 40,
            "num_key_value_heads": 8, "vocab_size": 152064, "num_hidden_layers": 1})"}},
          make,
          "qwen"};
}

}  // namespace halftone
