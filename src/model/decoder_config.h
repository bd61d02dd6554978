#pragma once

#include <string>
#include <vector>

#include "model/config_reader.h"
#include "model/decoder.h"

namespace halftone {

// What a family does without where config.json is silent; 0: the key is required, or follows from
// the others.
struct DecoderDefaults {
  RopeDefaults rope = {};
  double epsilon = 1e-6;
  int64_t max_positions = 2048;
  int64_t heads = 0;
  int64_t kv_heads = 0;  // 0: as many as heads
  int64_t head_dim = 0;  // 0: hidden_size / num_attention_heads
  int64_t vocabulary = 0;
  bool tied = false;
};

// What all decoders share: sizes, heads, one kind of rotary embedding, norms, the tied head. All
// layers are alike; their feed-forward blocks have no size yet.
DecoderSpec read_decoder(const ConfigReader& config, const DecoderDefaults& defaults = {});

// InputError unless `key` (absent: `supported`) is the one activation that the family has.
void expect_activation(const ConfigReader& config, const char* key, const std::string& supported);

// A list with one entry a layer, each one of `known`; empty where the key is absent.
std::vector<std::string> read_layer_types(const ConfigReader& config, size_t layers,
                                          const std::vector<std::string>& known);

// Number of experts (the first of `count_keys`) and how many a token goes to.
RouterSpec read_router(const ConfigReader& config, const std::vector<const char*>& count_keys);
// DeepSeek-V3's selection of experts: sigmoid, groups, correction bias.
RouterSpec read_group_router(const ConfigReader& config);
// The layers of DeepSeek-V3 and its kin: dense ones first, then experts beside shared ones.
void set_deepseek_feed_forward(const ConfigReader& config, DecoderSpec& model);
// Qwen's: experts but for mlp_only_layers and all that decoder_sparse_step leaves out.
void set_qwen_feed_forward(const ConfigReader& config, const FeedForwardSpec& experts,
                           DecoderSpec& model);
// Qwen2 and Qwen3: a window in the layers from max_window_layers on, if at all.
void set_qwen_windows(const ConfigReader& config, DecoderSpec& model);

// All layers get a gated MLP of this width.
void set_intermediate(DecoderSpec& model, int64_t intermediate);
// All layers get a window of `sliding_window`; `absent` where the key is missing, 0 where it is
// null.
void set_window(const ConfigReader& config, DecoderSpec& model, int64_t absent = 0);

// The text tower of a multimodal model, or a text model: its configuration and how its tensors are
// called.
struct TextModel {
  ConfigReader config;
  std::string model = "model.";
  std::string head = "lm_head";
  bool tied = false;
  std::vector<std::string> carried_prefixes = {};
};
TextModel text_model(const ModelInput& input, bool tied_by_default);
// Takes over the names and whether the head is tied.
void use_text_model(const TextModel& text, DecoderSpec& model);

}  // namespace halftone
