#include "model/decoder_config.h"

#include <algorithm>
#include <cmath>

namespace halftone {
namespace {

constexpr int64_t kMaxExperts = 4096;

AttentionSpec read_heads(const ConfigReader& config, const DecoderDefaults& defaults,
                         int64_t hidden) {
  AttentionSpec attention;
  const auto size = [&](const char* key, int64_t fallback) {
    return fallback == 0 ? config.size(key) : config.size_or(key, fallback);
  };
  attention.heads = size("num_attention_heads", defaults.heads);
  attention.kv_heads = config.size_or("num_key_value_heads",
                                      defaults.kv_heads == 0 ? attention.heads : defaults.kv_heads);
  // An explicit null asks for hidden_size / num_attention_heads.
  const bool divided = defaults.head_dim == 0 || config.mentions("head_dim");
  const int64_t head_dim = divided ? hidden / attention.heads : defaults.head_dim;
  attention.head_dim = config.size_or("head_dim", head_dim);
  if (attention.heads % attention.kv_heads != 0) {
    config.fail("num_attention_heads (", attention.heads,
                ") must be a multiple of num_key_value_heads (", attention.kv_heads, ")");
  }
  if (attention.head_dim < 1 || attention.head_dim % 2 != 0) {
    config.fail("head_dim (or hidden_size / num_attention_heads) must be ",
                "even and positive, found ", attention.head_dim);
  }
  attention.scale = 1.0 / std::sqrt(static_cast<double>(attention.head_dim));
  return attention;
}

}  // namespace

DecoderSpec read_decoder(const ConfigReader& config, const DecoderDefaults& defaults) {
  DecoderSpec model;
  model.hidden = config.size("hidden_size");
  const int64_t layers = config.layers();
  LayerSpec layer;
  layer.attention = read_heads(config, defaults, model.hidden);
  model.vocabulary = defaults.vocabulary == 0 ? config.size("vocab_size")
                                              : config.size_or("vocab_size", defaults.vocabulary);
  model.max_positions = config.size_or("max_position_embeddings", defaults.max_positions);
  model.epsilon = config.number_or("rms_norm_eps", defaults.epsilon);
  if (!(model.epsilon >= 0.0)) {
    config.fail("rms_norm_eps must not be negative, found ", model.epsilon);
  }
  model.tied = config.flag_or("tie_word_embeddings", defaults.tied);
  const RopeConfig rope = read_rope(config.json(), config.source(), defaults.rope);
  model.ropes = {{rope, rotary_dim(rope, layer.attention.head_dim, config.source())}};
  model.layers.assign(static_cast<size_t>(layers), layer);
  return model;
}

void expect_activation(const ConfigReader& config, const char* key, const std::string& supported) {
  const std::string activation = config.text_or(key, supported);
  if (activation == supported) return;
  config.fail(key, " '", activation, "' is not supported; supported: ", supported);
}

std::vector<std::string> read_layer_types(const ConfigReader& config, size_t layers,
                                          const std::vector<std::string>& known) {
  const std::vector<std::string> types = config.texts("layer_types");
  if (!types.empty() && types.size() != layers) {
    config.fail("'layer_types' has ", types.size(), " entries, but num_hidden_layers is ", layers);
  }
  for (const std::string& type : types) {
    if (std::find(known.begin(), known.end(), type) != known.end()) continue;
    std::string text;
    for (const std::string& one : known) text += (text.empty() ? "" : ", ") + one;
    config.fail("'layer_types' holds '", type, "', which is not supported; supported: ", text);
  }
  return types;
}

RouterSpec read_router(const ConfigReader& config, const std::vector<const char*>& count_keys) {
  RouterSpec router;
  router.experts = config.size_of_any(count_keys);
  if (router.experts > kMaxExperts) {
    config.fail("there are ", router.experts, " experts; at most ", kMaxExperts, " are supported");
  }
  router.top_k = config.size_of_any({"num_experts_per_tok", "experts_per_token"});
  if (router.top_k > router.experts) {
    config.fail("num_experts_per_tok (", router.top_k, ") is above the number of experts (",
                router.experts, ")");
  }
  return router;
}

RouterSpec read_group_router(const ConfigReader& config) {
  RouterSpec router = read_router(config, {"n_routed_experts", "num_local_experts"});
  router.kind = RouterSpec::Kind::kSigmoidGroups;
  for (const auto& [key, supported] :
       {std::pair("scoring_func", "sigmoid"), std::pair("topk_method", "noaux_tc")}) {
    const std::string found = config.text_or(key, supported);
    if (found != supported) {
      config.fail("'", key, "' is '", found, "', which is not supported; supported: ", supported);
    }
  }
  router.groups = config.size_or("n_group", 1);
  router.kept_groups = config.size_or("topk_group", 1);
  const int64_t group_size = router.experts / router.groups;
  if (router.experts % router.groups != 0 || (router.groups > 1 && group_size < 2)) {
    config.fail("n_group (", router.groups, ") must divide the ", router.experts,
                " experts into groups of two or more");
  }
  if (router.kept_groups > router.groups || router.top_k > router.kept_groups * group_size) {
    config.fail("num_experts_per_tok (", router.top_k, ") experts must fit into topk_group (",
                router.kept_groups, ") of n_group (", router.groups, ") groups of ", group_size);
  }
  router.renormalize = config.flag_or("norm_topk_prob", true);
  router.scaling = config.positive_or("routed_scaling_factor", 1.0);
  return router;
}

void set_deepseek_feed_forward(const ConfigReader& config, DecoderSpec& model) {
  FeedForwardSpec dense;
  dense.intermediate = config.size("intermediate_size");
  FeedForwardSpec routed = dense;
  routed.kind = FeedForwardSpec::Kind::kExperts;
  ExpertsSpec& experts = routed.experts;
  experts.router = read_group_router(config);
  experts.correction_bias = true;
  experts.intermediate = config.size("moe_intermediate_size");
  experts.shared_intermediate = config.count_or("n_shared_experts", 0) * experts.intermediate;
  experts.shared_name = "shared_experts";
  const int64_t first = config.count_or("first_k_dense_replace", 0);
  const int64_t step = config.size_or("moe_layer_freq", 1);
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    model.layers[i].feed_forward = index >= first && index % step == 0 ? routed : dense;
  }
  const char* key =
      config.has("num_nextn_predict_layers") ? "num_nextn_predict_layers" : "num_mtp_layers";
  model.next_token_layers = config.count_or(key, 0);
  if (model.next_token_layers > ConfigReader::kMaxLayers) {
    config.fail("'", key, "' is ", model.next_token_layers, "; at most ", ConfigReader::kMaxLayers,
                " are supported");
  }
}

void set_qwen_feed_forward(const ConfigReader& config, const FeedForwardSpec& experts,
                           DecoderSpec& model) {
  const int64_t step = config.size_or("decoder_sparse_step", 1);
  const std::vector<int64_t> dense_layers = config.integers("mlp_only_layers");
  FeedForwardSpec dense;
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    const bool listed =
        std::find(dense_layers.begin(), dense_layers.end(), index) != dense_layers.end();
    FeedForwardSpec& feed_forward = model.layers[i].feed_forward;
    if (!listed && (index + 1) % step == 0) {
      feed_forward = experts;
      continue;
    }
    dense.intermediate = config.size("intermediate_size");
    feed_forward = dense;
  }
}

void set_qwen_windows(const ConfigReader& config, DecoderSpec& model) {
  const auto types =
      read_layer_types(config, model.layers.size(), {"full_attention", "sliding_attention"});
  if (!config.flag_or("use_sliding_window", false)) return;
  const int64_t absent = config.mentions("sliding_window") ? 0 : 4096;
  const int64_t window = config.count_or("sliding_window", absent);
  const int64_t first = config.count_or("max_window_layers", 28);
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const bool slides =
        types.empty() ? static_cast<int64_t>(i) >= first : types[i] == "sliding_attention";
    if (slides) model.layers[i].attention.reach.window = window;
  }
}

void set_intermediate(DecoderSpec& model, int64_t intermediate) {
  for (LayerSpec& layer : model.layers) layer.feed_forward.intermediate = intermediate;
}

void set_window(const ConfigReader& config, DecoderSpec& model, int64_t absent) {
  const int64_t window =
      config.count_or("sliding_window", config.mentions("sliding_window") ? 0 : absent);
  for (LayerSpec& layer : model.layers) layer.attention.reach.window = window;
}

}  // namespace halftone
