// Mistral: Llama with a sliding window in every layer, in later models without.
#include "model/decoder_config.h"
#include "model/families/families.h"

namespace halftone {
namespace {

std::unique_ptr<Model> make(const ModelInput& input) {
  const ConfigReader config(input.config, input.source);
  DecoderSpec model = read_decoder(config, {.max_positions = 131072, .kv_heads = 0});
  set_intermediate(model, config.size("intermediate_size"));
  set_window(config, model, /*absent=*/4096);
  expect_activation(config, "hidden_act", "silu");
  model.trtllm = true;
  return make_decoder(std::move(model), input);
}

}  // namespace

Family mistral_family() {
  return {"mistral", {"MistralForCausalLM"}, "Mistral 7B, Nemo, Large, Small", make, "llama"};
}

}  // namespace halftone
