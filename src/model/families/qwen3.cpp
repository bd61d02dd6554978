// Qwen3: Llama with norms over each head of q and k.
#include "model/decoder_config.h"
#include "model/families/families.h"

namespace halftone {
namespace {

std::unique_ptr<Model> make(const ModelInput& input) {
  const ConfigReader config(input.config, input.source);
  DecoderSpec model = read_decoder(config, {.max_positions = 32768, .head_dim = 128});
  set_intermediate(model, config.size("intermediate_size"));
  set_qwen_windows(config, model);
  expect_activation(config, "hidden_act", "silu");
  const bool bias = config.flag_or("attention_bias", false);
  for (LayerSpec& layer : model.layers) {
    layer.attention.head_norm = AttentionSpec::HeadNorm::kWeighted;
    layer.attention.qkv_bias = layer.attention.o_bias = bias;
  }
  model.folds_into_previous = true;
  model.trtllm = true;
  return make_decoder(std::move(model), input);
}

}  // namespace

Family qwen3_family() {
  return {"qwen3",
          {"Qwen3ForCausalLM"},
          "Llama with norms over heads",
          {{"Qwen3", R"({"hidden_size": 4096, "intermediate_size": 12288, "num_attention_heads": 32,
            "num_key_value_heads": 8, "vocab_size": 151936, "num_hidden_layers": 1,
            "head_dim": 128})"}},
          make,
          "qwen"};
}

}  // namespace halftone
