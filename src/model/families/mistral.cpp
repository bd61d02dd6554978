// Mistral: Llama with a sliding window in every layer, in later models without.
#include "model/decoder_config.h"
#include "model/families/families.h"

namespace halftone {
namespace {

std::unique_ptr<Model> make(const ModelInput& input) {
  const ConfigReader config(input.config, input.source);
  DecoderSpec model = read_decoder(config, {.max_positions = 131072});
  set_intermediate(model, config.size("intermediate_size"));
  set_window(config, model, /*absent=*/4096);
  expect_activation(config, "hidden_act", "silu");
  model.trtllm = true;
  return make_decoder(std::move(model), input);
}

}  // namespace

Family mistral_family() {
  return {"mistral",
          {"MistralForCausalLM"},
          "Llama with a sliding window",
          {{"Mistral 7B, Nemo, Small, Large",
            R"({"hidden_size": 5120, "intermediate_size": 14336, "num_attention_heads": 32,
            "num_key_value_heads": 8, "vocab_size": 131072, "num_hidden_layers": 1,
            "head_dim": 128})"}},
          make,
          "llama"};
}

}  // namespace halftone
