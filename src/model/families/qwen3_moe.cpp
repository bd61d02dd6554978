// Qwen3-30B-A3B, Qwen3-235B-A22B: Qwen3's attention, experts without a shared one.
#include "model/decoder_config.h"
#include "model/families/families.h"

namespace halftone {
namespace {

std::unique_ptr<Model> make(const ModelInput& input) {
  const ConfigReader config(input.config, input.source);
  DecoderSpec model = read_decoder(config, {.max_positions = 32768});
  if (config.flag_or("use_sliding_window", false)) set_window(config, model, /*absent=*/4096);
  expect_activation(config, "hidden_act", "silu");
  FeedForwardSpec feed_forward;
  feed_forward.kind = FeedForwardSpec::Kind::kExperts;
  ExpertsSpec& experts = feed_forward.experts;
  experts.router = read_router(config, {"num_experts", "num_local_experts"});
  experts.router.renormalize = config.flag_or("norm_topk_prob", false);
  experts.intermediate = config.size("moe_intermediate_size");
  set_qwen_feed_forward(config, feed_forward, model);
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

Family qwen3_moe_family() {
  return {"qwen3-moe",
          {"Qwen3MoeForCausalLM"},
          "Qwen3 with experts",
          {{"Qwen3-30B-A3B",
            R"({"hidden_size": 2048, "intermediate_size": 6144, "num_attention_heads": 32,
            "num_key_value_heads": 4, "vocab_size": 151936, "num_hidden_layers": 1,
            "head_dim": 128, "moe_intermediate_size": 768, "num_experts": 8,
            "num_experts_per_tok": 8})"},
           {"Qwen3-235B-A22B",
            R"({"hidden_size": 4096, "intermediate_size": 12288, "num_attention_heads": 64,
            "num_key_value_heads": 4, "vocab_size": 151936, "num_hidden_layers": 1,
            "head_dim": 128, "moe_intermediate_size": 1536, "num_experts": 8,
            "num_experts_per_tok": 8})"}},
          make,
          "qwen"};
}

}  // namespace halftone
