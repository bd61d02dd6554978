// Llama-Nemotron Super and Ultra: Llama with blocks that differ by layer and may be absent.
#include "model/decoder_config.h"
#include "model/families/families.h"

namespace halftone {
namespace {

// The width of a layer's MLP, as the published code rounds it.
int64_t intermediate_of(const ConfigReader& block, int64_t hidden) {
  const double multiplier = block.positive_or("ffn_mult", 0.0);
  const double width = 2.0 * multiplier * static_cast<double>(hidden) / 3.0;
  if (width < 1.0 || width > static_cast<double>(ConfigReader::kMaxSize)) {
    block.fail("'ffn_mult' ", multiplier, " of hidden_size ", hidden, " gives no possible width");
  }
  return (static_cast<int64_t>(width) + 255) / 256 * 256;
}

void read_attention(const ConfigReader& block, AttentionSpec& attention) {
  if (block.flag_or("no_op", false)) {
    attention.kind = AttentionSpec::Kind::kNone;
  } else if (block.flag_or("replace_with_linear", false)) {
    attention.kind = AttentionSpec::Kind::kLinear;
  } else {
    const int64_t group = block.size("n_heads_in_group");
    if (attention.heads % group != 0) {
      block.fail("'n_heads_in_group' (", group, ") must divide num_attention_heads (",
                 attention.heads, ")");
    }
    attention.kv_heads = attention.heads / group;
    for (const char* key : {"window_length", "num_sink_tokens"}) {
      if (block.has(key)) block.fail("'", key, "' is not supported; it must be null");
    }
  }
}

void read_feed_forward(const ConfigReader& block, int64_t hidden, FeedForwardSpec& feed_forward) {
  if (block.flag_or("no_op", false)) {
    feed_forward.kind = FeedForwardSpec::Kind::kNone;
  } else if (block.flag_or("replace_with_linear", false)) {
    feed_forward.kind = FeedForwardSpec::Kind::kLinear;
  } else {
    feed_forward.intermediate = intermediate_of(block, hidden);
  }
}

std::unique_ptr<Model> make(const ModelInput& input) {
  const ConfigReader config(input.config, input.source);
  DecoderSpec model = read_decoder(config);
  expect_activation(config, "hidden_act", "silu");
  const auto blocks = input.config.find("block_configs");
  if (blocks == input.config.end() || !blocks->is_array() ||
      blocks->size() != model.layers.size()) {
    config.fail("'block_configs' must be a list with one entry for each of the ",
                model.layers.size(), " layers");
  }
  const bool attention_bias = config.flag_or("attention_bias", false);
  const bool mlp_bias = config.flag_or("mlp_bias", false);
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const ConfigReader block((*blocks)[i], concat(input.source, ": block_configs[", i, "]"));
    if (!block.json().is_object()) block.fail("must be an object");
    LayerSpec& layer = model.layers[i];
    layer.attention.qkv_bias = layer.attention.o_bias = attention_bias;
    layer.feed_forward.bias = mlp_bias;
    read_attention(block.object("attention"), layer.attention);
    read_feed_forward(block.object("ffn"), model.hidden, layer.feed_forward);
  }
  model.trtllm = true;
  return make_decoder(std::move(model), input);
}

}  // namespace

Family nemotron_nas_family() {
  return {"nemotron-nas",
          {"DeciLMForCausalLM"},
          "Llama with blocks that differ by layer",
          {{"Llama-Nemotron Super 49B, 51B",
            R"({"hidden_size": 8192, "num_attention_heads": 64, "vocab_size": 128256,
            "num_hidden_layers": 2,
            "block_configs": [{"attention": {"n_heads_in_group": 8},
            "ffn": {"ffn_mult": 5.25}}, {"attention": {"no_op": true},
            "ffn": {"ffn_mult": 1.3125}}]})"},
           {"Llama-Nemotron Ultra 253B",
            R"({"hidden_size": 16384, "num_attention_heads": 128, "vocab_size": 128256,
            "num_hidden_layers": 2,
            "block_configs": [{"attention": {"n_heads_in_group": 16},
            "ffn": {"ffn_mult": 4.875}}, {"attention": {"no_op": true},
            "ffn": {"ffn_mult": 2.4375}}]})"}},
          make,
          "deci"};
}

}  // namespace halftone
