// Gemma 3: sliding and global layers with rotary embeddings of their own, norms around each block.
#include <cmath>

#include "model/decoder_config.h"
#include "model/families/families.h"

namespace halftone {
namespace {

enum : int { kGlobal, kLocal };  // places in DecoderSpec::ropes

// transformers 5 writes one set for each kind of layer; before, only global layers were scaled.
RopeConfig read_local_rope(const ConfigReader& config) {
  if (config.has("rope_parameters")) {
    const ConfigReader kinds = config.object("rope_parameters");
    if (kinds.has("sliding_attention")) {
      return read_rope({{"rope_parameters", kinds.object("sliding_attention").json()}},
                       config.source());
    }
  }
  RopeConfig rope;
  rope.theta = config.positive_or("rope_local_base_freq", 10000.0);
  return rope;
}

void set_layers(const ConfigReader& config, DecoderSpec& model) {
  const auto types =
      read_layer_types(config, model.layers.size(), {"full_attention", "sliding_attention"});
  const auto pattern = static_cast<size_t>(config.size_or("sliding_window_pattern", 6));
  const int64_t window =
      config.count_or("sliding_window", config.mentions("sliding_window") ? 0 : 4096);
  const double scalar = config.positive_or("query_pre_attn_scalar", 256.0);
  const bool bias = config.flag_or("attention_bias", false);
  const int64_t intermediate = config.size("intermediate_size");
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const bool local = types.empty() ? (i + 1) % pattern != 0 : types[i] == "sliding_attention";
    AttentionSpec& attention = model.layers[i].attention;
    attention.rope = local ? kLocal : kGlobal;
    if (local) attention.reach.window = window;
    attention.scale = 1.0 / std::sqrt(scalar);
    attention.head_norm = AttentionSpec::HeadNorm::kWeighted;
    attention.qkv_bias = attention.o_bias = bias;
    model.layers[i].feed_forward.intermediate = intermediate;
    model.layers[i].feed_forward.activation = Activation::kGeluTanh;
  }
}

std::unique_ptr<Model> make(const ModelInput& input) {
  const TextModel text = text_model(input, /*tied_by_default=*/true);
  const ConfigReader& config = text.config;
  DecoderSpec model = read_decoder(config, {.rope = {.theta = 1e6},
                                            .max_positions = 131072,
                                            .heads = 8,
                                            .kv_heads = 4,
                                            .head_dim = 256,
                                            .vocabulary = 262208});
  use_text_model(text, model);
  expect_activation(config, "hidden_activation", "gelu_pytorch_tanh");
  if (config.has("attn_logit_softcapping")) {
    config.fail("'attn_logit_softcapping' is not supported; it must be null");
  }
  if (config.flag_or("use_bidirectional_attention", false)) {
    config.fail("'use_bidirectional_attention' is not supported; it must be false");
  }
  if (config.has("final_logit_softcapping")) {
    model.logit_cap = config.positive_or("final_logit_softcapping", 0.0);
  }
  const RopeConfig local = read_local_rope(config);
  model.ropes.push_back({local, model.ropes[kGlobal].dim});
  model.norm = NormKind::kRmsPlusOne;
  model.norms_behind = true;
  model.embedding_scale = std::sqrt(static_cast<double>(model.hidden));
  set_layers(config, model);
  model.trtllm = true;
  return make_decoder(std::move(model), input);
}

}  // namespace

Family gemma3_family() {
  return {
      "gemma3",
      {"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"},
      "text; local and global layers, norms around each block",
      {{"Gemma 3 1B", R"({"hidden_size": 1152, "intermediate_size": 6912, "num_attention_heads": 4,
            "num_key_value_heads": 1, "vocab_size": 262144, "num_hidden_layers": 1,
            "head_dim": 256})"},
       {"Gemma 3 4B, 12B, 27B", R"({"text_config": {"hidden_size": 2560, "intermediate_size": 10240,
            "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 262208,
            "num_hidden_layers": 1, "head_dim": 256}})"}},
      make,
      "gemma3"};
}

}  // namespace halftone
