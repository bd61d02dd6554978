// Qwen1.5-MoE and Qwen2-57B-A14B: experts beside a shared one with a gate of its own.
#include "model/decoder_config.h"
#include "model/families/families.h"

namespace halftone {
namespace {

// Every other layer up to max_window_layers, if at all.
void set_windows(const ConfigReader& config, DecoderSpec& model) {
  const auto types =
      read_layer_types(config, model.layers.size(), {"full_attention", "sliding_attention"});
  if (!config.flag_or("use_sliding_window", false)) return;
  const int64_t window = config.count_or("sliding_window", 4096);
  const int64_t end = config.count_or("max_window_layers", 28);
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const bool slides = types.empty() ? i % 2 == 0 && static_cast<int64_t>(i) < end
                                      : types[i] == "sliding_attention";
    if (slides) model.layers[i].attention.reach.window = window;
  }
}

std::unique_ptr<Model> make(const ModelInput& input) {
  const ConfigReader config(input.config, input.source);
  DecoderSpec model = read_decoder(config, {.max_positions = 32768});
  set_windows(config, model);
  expect_activation(config, "hidden_act", "silu");
  FeedForwardSpec feed_forward;
  feed_forward.kind = FeedForwardSpec::Kind::kExperts;
  ExpertsSpec& experts = feed_forward.experts;
  experts.router = read_router(config, {"num_experts", "num_local_experts"});
  experts.router.renormalize = config.flag_or("norm_topk_prob", false);
  experts.intermediate = config.size("moe_intermediate_size");
  experts.shared_intermediate = config.size("shared_expert_intermediate_size");
  experts.shared_gate_name = "shared_expert_gate";
  set_qwen_feed_forward(config, feed_forward, model);
  const bool bias = config.flag_or("qkv_bias", true);
  for (LayerSpec& layer : model.layers) layer.attention.qkv_bias = bias;
  model.trtllm = true;
  return make_decoder(std::move(model), input);
}

}  // namespace

Family qwen2_moe_family() {
  return {"qwen2-moe",
          {"Qwen2MoeForCausalLM"},
          "Qwen2 with experts beside a shared one",
          {{"Qwen1.5-MoE",
            R"({"hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 16,
            "num_key_value_heads": 16, "vocab_size": 151936, "num_hidden_layers": 1,
            "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632,
            "num_experts": 4, "num_experts_per_tok": 4})"},
           {"Qwen2-57B-A14B",
            R"({"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28,
            "num_key_value_heads": 4, "vocab_size": 151936, "num_hidden_layers": 1,
            "moe_intermediate_size": 2560, "shared_expert_intermediate_size": 20480,
            "num_experts": 8, "num_experts_per_tok": 8})"}},
          make,
          "qwen"};
}

}  // namespace halftone
