// Llama 4 (text): layers with chunked attention and rotary embedding, every few without either,
// stacked experts beside a shared one.
#include <algorithm>

#include "model/decoder_config.h"
#include "model/families/families.h"

namespace halftone {
namespace {

// Which layers have rotary embedding.
std::vector<bool> read_rope_layers(const ConfigReader& config, size_t layers) {
  const std::vector<int64_t> listed = config.integers("no_rope_layers");
  if (!listed.empty() && listed.size() < layers) {
    config.fail("'no_rope_layers' has ", listed.size(), " entries, but num_hidden_layers is ",
                layers);
  }
  const auto interval = static_cast<size_t>(config.size_or("no_rope_layer_interval", 4));
  std::vector<bool> rotates;
  for (size_t i = 0; i < layers; ++i) {
    // The list's 1 means, despite its name, that the layer has it.
    rotates.push_back(listed.empty() ? (i + 1) % interval != 0 : listed[i] != 0);
  }
  return rotates;
}

void set_attention(const ConfigReader& config, DecoderSpec& model) {
  using HeadNorm = AttentionSpec::HeadNorm;
  const std::vector<bool> rotates = read_rope_layers(config, model.layers.size());
  const auto types =
      read_layer_types(config, model.layers.size(), {"full_attention", "chunked_attention"});
  const int64_t chunk =
      config.count_or("attention_chunk_size", config.mentions("attention_chunk_size") ? 0 : 8192);
  const bool norms = config.flag_or("use_qk_norm", true);
  const bool tempers = config.switch_or("attn_temperature_tuning", true);
  const double temperature = config.number_or("attn_scale", 0.1);
  const double temperature_floor = config.positive_or("floor_scale", 8192.0);
  const bool bias = config.flag_or("attention_bias", false);
  for (size_t i = 0; i < model.layers.size(); ++i) {
    AttentionSpec& attention = model.layers[i].attention;
    const bool chunked = types.empty() ? rotates[i] : types[i] == "chunked_attention";
    if (chunked) attention.reach.chunk = chunk;
    if (!rotates[i]) attention.rope = -1;
    if (rotates[i] && norms) attention.head_norm = HeadNorm::kL2BehindRope;
    if (!rotates[i] && tempers) attention.temperature = temperature;
    attention.temperature_floor = temperature_floor;
    attention.qkv_bias = attention.o_bias = bias;
  }
}

void set_feed_forward(const ConfigReader& config, DecoderSpec& model) {
  FeedForwardSpec dense;
  dense.name = "feed_forward";
  FeedForwardSpec routed = dense;
  routed.kind = FeedForwardSpec::Kind::kExperts;
  ExpertsSpec& experts = routed.experts;
  experts.router = read_router(config, {"num_local_experts"});
  experts.router.kind = RouterSpec::Kind::kSigmoidOfLogit;
  experts.router_name = "router";
  experts.weighs_input = true;
  experts.storage = ExpertsSpec::Storage::kStacked;
  experts.intermediate = config.size("intermediate_size");
  experts.shared_intermediate = experts.intermediate;
  const bool listed = config.has("moe_layers");
  const std::vector<int64_t> layers = config.integers("moe_layers");
  const int64_t step = config.size_or("interleave_moe_layer_step", 1);
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    const bool in_list = std::find(layers.begin(), layers.end(), index) != layers.end();
    const bool is_routed = listed ? in_list : (index + 1) % step == 0;
    if (!is_routed) dense.intermediate = config.size_or("intermediate_size_mlp", 16384);
    model.layers[i].feed_forward = is_routed ? routed : dense;
  }
}

std::unique_ptr<Model> make(const ModelInput& input) {
  const TextModel text = text_model(input, /*tied_by_default=*/false);
  const ConfigReader& config = text.config;
  DecoderSpec model = read_decoder(
      config,
      {.rope = {.theta = 500000.0}, .epsilon = 1e-5, .max_positions = 131072, .head_dim = 128});
  use_text_model(text, model);
  model.ropes.front().layout = RopeLayout::kPairs;
  expect_activation(config, "hidden_act", "silu");
  set_attention(config, model);
  set_feed_forward(config, model);
  return make_decoder(std::move(model), input);
}

}  // namespace

Family llama4_family() {
  return {"llama4",
          {"Llama4ForConditionalGeneration", "Llama4ForCausalLM"},
          "text; chunked attention, stacked experts beside a shared one",
          {{"Llama 4 Scout", R"({"text_config": {"hidden_size": 5120, "intermediate_size": 8192,
            "num_attention_heads": 40, "num_key_value_heads": 8, "vocab_size": 202048,
            "num_hidden_layers": 1, "head_dim": 128, "num_local_experts": 4,
            "num_experts_per_tok": 1}})"},
           {"Llama 4 Maverick", R"({"text_config": {"hidden_size": 5120, "intermediate_size": 8192,
            "num_attention_heads": 40, "num_key_value_heads": 8, "vocab_size": 202048,
            "num_hidden_layers": 2, "head_dim": 128, "intermediate_size_mlp": 16384,
            "interleave_moe_layer_step": 2, "num_local_experts": 4,
            "num_experts_per_tok": 1}})"}},
          make,
          ""};
}

}  // namespace halftone
