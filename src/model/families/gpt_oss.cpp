// gpt-oss: attention sinks, sliding and full layers in turn, stacked experts with biases.
#include "model/decoder_config.h"
#include "model/families/families.h"

namespace halftone {
namespace {

// What the family's class takes where config.json names no rotary embedding at all.
RopeConfig default_rope(const std::string& source) {
  return read_rope({{"rope_theta", 150000.0},
                    {"rope_scaling",
                     {{"rope_type", "yarn"},
                      {"factor", 32.0},
                      {"truncate", false},
                      {"original_max_position_embeddings", 4096}}}},
                   source);
}

FeedForwardSpec read_experts(const ConfigReader& config) {
  FeedForwardSpec feed_forward;
  feed_forward.kind = FeedForwardSpec::Kind::kExperts;
  ExpertsSpec& experts = feed_forward.experts;
  experts.router = read_router(config, {"num_local_experts", "num_experts"});
  experts.router.kind = RouterSpec::Kind::kSoftmaxOfChosen;
  experts.router_name = "router";
  experts.router_bias = true;
  experts.storage = ExpertsSpec::Storage::kStacked;
  experts.gate = ExpertsSpec::Gate::kInterleaved;
  experts.limit = config.positive_or("swiglu_limit", 7.0);
  experts.bias = true;
  experts.intermediate = config.size("intermediate_size");
  return feed_forward;
}

std::unique_ptr<Model> make(const ModelInput& input) {
  const ConfigReader config(input.config, input.source);
  DecoderSpec model = read_decoder(
      config,
      {.rope = {.theta = 150000.0}, .epsilon = 1e-5, .max_positions = 131072, .head_dim = 64});
  if (!config.has("rope_scaling") && !config.has("rope_parameters")) {
    model.ropes.front().config = default_rope(config.source());
  }
  expect_activation(config, "hidden_act", "silu");
  const auto types =
      read_layer_types(config, model.layers.size(), {"full_attention", "sliding_attention"});
  const int64_t window =
      config.count_or("sliding_window", config.mentions("sliding_window") ? 0 : 128);
  const FeedForwardSpec experts = read_experts(config);
  const bool bias = config.flag_or("attention_bias", true);
  for (size_t i = 0; i < model.layers.size(); ++i) {
    AttentionSpec& attention = model.layers[i].attention;
    const bool slides = types.empty() ? i % 2 == 0 : types[i] == "sliding_attention";
    if (slides) attention.reach.window = window;
    attention.sinks = true;
    attention.qkv_bias = attention.o_bias = bias;
    model.layers[i].feed_forward = experts;
  }
  model.norm = NormKind::kRmsWide;
  return make_decoder(std::move(model), input);
}

}  // namespace

Family gpt_oss_family() {
  return {"gpt-oss",
          {"GptOssForCausalLM"},
          "attention sinks, stacked experts with biases",
          {{"gpt-oss 20b, 120b",
            R"({"hidden_size": 2880, "intermediate_size": 2880, "num_attention_heads": 64,
            "num_key_value_heads": 8, "vocab_size": 201088, "num_hidden_layers": 1,
            "head_dim": 64, "num_local_experts": 4, "num_experts_per_tok": 4})"}},
          make,
          ""};
}

}  // namespace halftone
