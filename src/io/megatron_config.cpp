#include "io/megatron_config.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/log.h"
#include "io/shown_name.h"

namespace halftone {
namespace {

// One family of Hugging Face and the class that computes it.
struct HfFamily {
  const char* model_type;
  const char* architecture;
};
constexpr HfFamily kLlama{"llama", "LlamaForCausalLM"};
constexpr HfFamily kMistral{"mistral", "MistralForCausalLM"};
constexpr HfFamily kMixtral{"mixtral", "MixtralForCausalLM"};
constexpr HfFamily kQwen2{"qwen2", "Qwen2ForCausalLM"};
constexpr HfFamily kQwen2Moe{"qwen2_moe", "Qwen2MoeForCausalLM"};
constexpr HfFamily kQwen3{"qwen3", "Qwen3ForCausalLM"};
constexpr HfFamily kQwen3Moe{"qwen3_moe", "Qwen3MoeForCausalLM"};

// Switches that make another model of it.
constexpr std::array kForeignSwitches{
    "multi_latent_attention", "rotary_interleaved", "layernorm_zero_centered_gamma",
    "add_bias_linear",        "qk_l2_norm",         "moe_router_enable_expert_bias",
    "attention_output_gate",  "is_hybrid_model"};
// Settings that do so unless they are absent or neutral.
constexpr std::array kForeignSettings{std::pair{"softmax_scale", 0},
                                      std::pair{"attn_logit_softcapping", 0},
                                      std::pair{"final_logit_softcapping", 0},
                                      std::pair{"rotary_seq_len_interpolation_factor", 1},
                                      std::pair{"seq_len_interpolation_factor", 1},
                                      std::pair{"mtp_num_layers", 0},
                                      std::pair{"heterogeneous_layers_config_path", 0},
                                      std::pair{"moe_router_num_groups", 0},
                                      std::pair{"linear_attention_freq", 0},
                                      std::pair{"window_attn_skip_freq", 0},
                                      std::pair{"moe_router_topk_scaling_factor", 1}};

std::string shown(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80);
}

class ConfigWriter {
 public:
  explicit ConfigWriter(const MegatronFields& fields) : fields_(fields) {}

  Json write(int64_t rows, const std::string& dtype, const std::optional<fs::path>& tokenizer) {
    refuse_foreign();
    const HfFamily family = family_of_fields();
    const int64_t heads = size("num_attention_heads");
    const int64_t hidden = size("hidden_size");
    if (heads == 0) fail("'num_attention_heads' is 0");
    Json config{{"architectures", {family.architecture}},
                {"model_type", family.model_type},
                {"hidden_act", "silu"},
                {"hidden_size", hidden},
                {"num_hidden_layers", size("num_layers")},
                {"num_attention_heads", heads},
                {"num_key_value_heads", size_or("num_query_groups", heads)},
                {"head_dim", size_or("kv_channels", hidden / heads)},
                {"intermediate_size", size_or("ffn_hidden_size", 4 * hidden)},
                {"max_position_embeddings", positions()},
                {"rms_norm_eps", number("layernorm_epsilon")},
                {"rope_theta", number("rotary_base")},
                {"tie_word_embeddings", is("share_embeddings_and_output_weights")},
                {"torch_dtype", dtype}};
    add_rope_scaling(config);
    add_experts(config, family);
    add_window(config, family);
    if (family.model_type == std::string("qwen3")) config["attention_bias"] = false;
    add_vocabulary(config, rows, tokenizer);
    return config;
  }

 private:
  [[noreturn]] void fail(const std::string& text) const {
    throw InputError(
        concat(fields_.source, ": ", text,
               ": give the configuration of the Hugging Face model with --source-config DIR"));
  }

  const Json* find(const char* key) const {
    const auto found = fields_.values.find(key);
    return found == fields_.values.end() || found->is_null() ? nullptr : &*found;
  }
  bool is(const char* key) const {
    const Json* value = find(key);
    return value != nullptr && *value == true;
  }
  int64_t size_or(const char* key, int64_t fallback) const {
    const Json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_number_integer() || *value < 0 || *value > INT32_MAX) {
      fail(concat("'", key, "' is ", shown(*value), ", expected a size"));
    }
    return value->get<int64_t>();
  }
  int64_t size(const char* key) const {
    if (find(key) == nullptr) fail(concat("the setting '", key, "' is missing"));
    return size_or(key, 0);
  }
  // The length of the run's sequences where nothing else is said.
  int64_t positions() const {
    const char* const key = "max_position_embeddings";
    return find(key) != nullptr ? size(key) : size("seq_length");
  }
  double number(const char* key) const {
    const Json* value = find(key);
    if (value == nullptr || !value->is_number()) {
      fail(concat("the setting '", key, "' is missing or no number"));
    }
    return value->get<double>();
  }

  void expect_text(const char* key, const std::string& part) const {
    const Json* value = find(key);
    if (value == nullptr) fail(concat("the setting '", key, "' is missing"));
    const bool sound =
        value->is_string() && value->get<std::string>().find(part) != std::string::npos;
    if (!sound) {
      fail(concat("'", key, "' is ", shown(*value), ", but only ", part,
                  " is known to Llama-type models"));
    }
  }

  void refuse_foreign() const {
    for (const char* key : kForeignSwitches) {
      if (is(key)) fail(concat("'", key, "' is set, which Llama-type models do not have"));
    }
    for (const auto& [key, neutral] : kForeignSettings) {
      const Json* value = find(key);
      if (value == nullptr || *value == neutral || *value == false) continue;
      fail(concat("'", key, "' is ", shown(*value), ", which Llama-type models do not have"));
    }
    expect_text("normalization", "RMSNorm");
    expect_text("position_embedding_type", "rope");
    expect_text("activation_func", "silu");
    if (!is("gated_linear_unit")) fail("'gated_linear_unit' is not set");
    if (const Json* share = find("rotary_percent"); share != nullptr && *share != 1.0) {
      fail(concat("'rotary_percent' is ", shown(*share), ", expected 1"));
    }
  }

  HfFamily family_of_fields() const {
    const bool norms = is("qk_layernorm");
    const bool bias = is("add_qkv_bias");
    if (norms && bias) fail("both 'qk_layernorm' and 'add_qkv_bias' are set");
    if (size_or("num_moe_experts", 0) > 0) {
      const bool shared = size_or("moe_shared_expert_intermediate_size", 0) > 0;
      if (shared != bias || (shared && norms)) {
        fail("experts, a shared expert and biases are in no combination that a model has");
      }
      return norms ? kQwen3Moe : bias ? kQwen2Moe : kMixtral;
    }
    if (norms) return kQwen3;
    if (bias) return kQwen2;
    return find("window_size") != nullptr ? kMistral : kLlama;
  }

  void add_rope_scaling(Json& config) const {
    const bool built_in = is("use_rope_scaling") || is("rope_scaling");
    const char* const factor = built_in ? "rope_scaling_factor" : "scale_factor";
    if (find(factor) == nullptr) return;
    // The values of Llama 3.1 where only the factor is given, as Megatron-core has them built in.
    const auto value_or = [&](const char* key, double fallback) {
      return find(key) == nullptr ? fallback : number(key);
    };
    config["rope_scaling"] = {
        {"rope_type", "llama3"},
        {"factor", number(factor)},
        {"low_freq_factor", value_or("low_freq_factor", 1.0)},
        {"high_freq_factor", value_or("high_freq_factor", 4.0)},
        {"original_max_position_embeddings", size_or("old_context_len", 8192)}};
  }

  void add_experts(Json& config, const HfFamily& family) const {
    const int64_t experts = size_or("num_moe_experts", 0);
    if (experts == 0) return;
    const Json* score = find("moe_router_score_function");
    if (score != nullptr && *score != "softmax") fail("the experts' scores are no softmax");
    const Json* every = find("moe_layer_freq");
    const bool all_layers =
        every == nullptr || *every == 1 ||
        (every->is_array() &&
         std::all_of(every->begin(), every->end(), [](const Json& layer) { return layer == 1; }));
    if (!all_layers) fail("not every layer has experts");
    // Without pre_softmax the weights of the chosen experts add up to one.
    const bool normalized = !is("moe_router_pre_softmax");
    const int64_t width = size_or("moe_ffn_hidden_size", size_or("ffn_hidden_size", 0));
    config["num_experts_per_tok"] = size("moe_router_topk");
    if (family.model_type == std::string("mixtral")) {
      if (!normalized) fail("'moe_router_pre_softmax' is set");
      config["num_local_experts"] = experts;
      config["intermediate_size"] = width;
      return;
    }
    config["num_experts"] = experts;
    config["moe_intermediate_size"] = width;
    config["norm_topk_prob"] = normalized;
    config["decoder_sparse_step"] = 1;
    config["mlp_only_layers"] = Json::array();
    if (family.model_type == std::string("qwen2_moe")) {
      config["shared_expert_intermediate_size"] = size("moe_shared_expert_intermediate_size");
    }
  }

  void add_window(Json& config, const HfFamily& family) const {
    if (family.model_type != std::string("mistral")) {
      if (find("window_size") != nullptr) fail("'window_size' is set");
      return;
    }
    // [before, behind], taken over as NeMo does it in both directions.
    const Json& window = *find("window_size");
    const Json& before = window.is_array() && !window.empty() ? window[0] : window;
    if (!before.is_number_integer()) fail("'window_size' is no number of positions");
    config["sliding_window"] = before;
  }

  void add_vocabulary(Json& config, int64_t rows, const std::optional<fs::path>& tokenizer) const {
    int64_t vocabulary = size_or("vocab_size", 0);
    for (const char* key : {"bos_token_id", "eos_token_id"}) config[key] = nullptr;
    if (tokenizer) {
      const int64_t tokens = read_tokenizer(*tokenizer, config);
      if (vocabulary == 0) vocabulary = tokens;
    }
    if (vocabulary == 0 || vocabulary > rows) {
      // The padding stays, as tokens that never come.
      if (vocabulary > rows) fail(concat("a vocabulary of ", vocabulary, ", but ", rows, " rows"));
      vocabulary = rows;
    }
    config["vocab_size"] = vocabulary;
  }

  // How many ids tokenizer.json gives out; 0 without one. Sets the ids of the special tokens.
  int64_t read_tokenizer(const fs::path& folder, Json& config) const {
    std::error_code error;
    const fs::path file = folder / "tokenizer.json";
    if (!fs::exists(file, error)) return 0;
    const Json root = read_json_file(file);
    const fs::path other = folder / "tokenizer_config.json";
    const Json roles = fs::exists(other, error) ? read_json_file(other) : Json::object();
    const auto text_of_role = [&](const char* role) {
      if (!roles.is_object() || !roles.contains(role)) return std::string();
      const Json& token = roles.at(role);
      const Json& content =
          token.is_object() && token.contains("content") ? token["content"] : token;
      return content.is_string() ? content.get<std::string>() : std::string();
    };
    const std::string bos = text_of_role("bos_token");
    const std::string eos = text_of_role("eos_token");
    int64_t tokens = 0;
    const auto see = [&](const Json& id, const std::string& text) {
      if (!id.is_number_integer() || id < 0 || id > INT32_MAX) return;
      tokens = std::max(tokens, id.get<int64_t>() + 1);
      if (!bos.empty() && text == bos) config["bos_token_id"] = id;
      if (!eos.empty() && text == eos) config["eos_token_id"] = id;
    };
    static const Json kNothing;
    const Json& model = root.is_object() && root.contains("model") ? root["model"] : kNothing;
    const Json& vocabulary =
        model.is_object() && model.contains("vocab") ? model["vocab"] : kNothing;
    if (vocabulary.is_object()) {
      for (const auto& [text, id] : vocabulary.items()) see(id, text);
    } else if (vocabulary.is_array()) {
      tokens = std::ssize(vocabulary);
    }
    const Json& added =
        root.is_object() && root.contains("added_tokens") ? root["added_tokens"] : kNothing;
    for (const Json& token : added) {
      if (!token.is_object() || !token.contains("id") || !token.contains("content")) continue;
      if (token["content"].is_string()) see(token["id"], token["content"].get<std::string>());
    }
    return tokens;
  }

  const MegatronFields& fields_;
};

}  // namespace

Json hf_config_of(const MegatronFields& fields, int64_t rows, const std::string& dtype,
                  const std::optional<fs::path>& tokenizer) {
  return ConfigWriter(fields).write(rows, dtype, tokenizer);
}

}  // namespace halftone
