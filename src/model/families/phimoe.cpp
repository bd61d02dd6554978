// Phi-3.5-MoE: layer norms with bias, biases in attention, experts chosen by the sparse mixer.
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
  model.norm = NormKind::kLayer;
  model.head_bias = config.flag_or("lm_head_bias", false);
  FeedForwardSpec feed_forward;
  feed_forward.kind = FeedForwardSpec::Kind::kExperts;
  feed_forward.name = "block_sparse_moe";
  ExpertsSpec& experts = feed_forward.experts;
  experts.router = read_router(config, {"num_local_experts"});
  experts.router.kind = RouterSpec::Kind::kSparseMixer;
  experts.router.jitter = config.positive_or("router_jitter_noise", 0.01);
  if (experts.router.top_k != 2) {
    config.fail("num_experts_per_tok must be 2 in this family, found ", experts.router.top_k);
  }
  experts.intermediate = config.size("intermediate_size");
  experts.linears = {"w1", "w3", "w2"};
  const bool bias = config.flag_or("attention_bias", false);
  for (LayerSpec& layer : model.layers) {
    layer.attention.qkv_bias = layer.attention.o_bias = bias;
    layer.feed_forward = feed_forward;
  }
  model.trtllm = true;
  return make_decoder(std::move(model), input);
}

}  // namespace

Family phimoe_family() {
  return {"phimoe",
          {"PhiMoEForCausalLM", "PhimoeForCausalLM"},
          "Phi-3 with experts, layer norms and biases",
          {{"Phi-3.5-MoE",
            R"({"hidden_size": 4096, "intermediate_size": 6400, "num_attention_heads": 32,
            "num_key_value_heads": 8, "vocab_size": 32064, "num_hidden_layers": 1,
            "num_local_experts": 4, "num_experts_per_tok": 2, "attention_bias": true,
            "lm_head_bias": true})"}},
          make,
          "phi3"};
}

}  // namespace halftone
