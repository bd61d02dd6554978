// Mixtral: Llama's attention, experts chosen by a softmax over all of them.
#include "model/decoder_config.h"
#include "model/families/families.h"

namespace halftone {
namespace {

std::unique_ptr<Model> make(const ModelInput& input) {
  const ConfigReader config(input.config, input.source);
  DecoderSpec model =
      read_decoder(config, {.rope = {.theta = 1e6}, .epsilon = 1e-5, .max_positions = 131072});
  set_window(config, model);
  expect_activation(config, "hidden_act", "silu");
  FeedForwardSpec feed_forward;
  feed_forward.kind = FeedForwardSpec::Kind::kExperts;
  feed_forward.name = "block_sparse_moe";
  ExpertsSpec& experts = feed_forward.experts;
  experts.router = read_router(config, {"num_local_experts"});
  experts.router.renormalize = true;
  experts.intermediate = config.size("intermediate_size");
  experts.linears = {"w1", "w3", "w2"};
  for (LayerSpec& layer : model.layers) layer.feed_forward = feed_forward;
  model.trtllm = true;
  return make_decoder(std::move(model), input);
}

}  // namespace

Family mixtral_family() {
  return {"mixtral",
          {"MixtralForCausalLM"},
          "Llama with experts",
          {{"Mixtral 8x7B, 8x22B",
            R"({"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
            "num_key_value_heads": 8, "vocab_size": 32000, "num_hidden_layers": 1,
            "num_local_experts": 4, "num_experts_per_tok": 2})"}},
          make,
          "llama"};
}

}  // namespace halftone
