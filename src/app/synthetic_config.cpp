#include "app/synthetic_config.h"

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "core/text_distance.h"

namespace halftone {
namespace {

constexpr const char* kLayers = "num_hidden_layers";

// Families whose published sizes are a configuration of their own; others take --like.
const std::vector<std::string> kPresets{"llama",   "mistral",   "qwen2",      "qwen3",
                                        "mixtral", "qwen3-moe", "deepseek-v3"};

Json preset(const Family& family) {
  Json config{{"architectures", {family.architectures.front()}}};
  std::string type = family.name;
  std::replace(type.begin(), type.end(), '-', '_');
  config["model_type"] = type;
  config.update(Json::parse(family.published.front().config));
  config["hidden_act"] = "silu";
  config["max_position_embeddings"] = 8192;
  config["rms_norm_eps"] = 1e-5;
  config["rope_theta"] = 10000.0;
  config["tie_word_embeddings"] = false;
  config["initializer_range"] = 0.02;
  config["bos_token_id"] = 1;
  config["eos_token_id"] = 2;
  return config;
}

const Family& family_of_config(const Json& config, const std::string& source) {
  const Json names = config.value("architectures", Json::array());
  for (const Family& family : families()) {
    for (const std::string& name : family.architectures) {
      if (names.is_array() && !names.empty() && names.front() == name) return family;
    }
  }
  throw InputError(concat(source, ": the architecture ", names.dump().substr(0, 80),
                          " is not supported; halftone models lists the supported ones"));
}

// Lists with an entry for each layer go on in the same pattern.
void set_layers(Json& config, int64_t layers, const std::string& source) {
  if (!config.contains(kLayers)) {
    throw UsageError(concat("--layers and --bytes need a configuration with ", kLayers, ", and ",
                            source, " has none"));
  }
  const auto before = json_member<int64_t>(config, kLayers, source);
  config[kLayers] = layers;
  for (auto& [key, value] : config.items()) {
    if (!value.is_array() || before < 1 || value.size() != static_cast<size_t>(before)) continue;
    if (key == "architectures" || key.ends_with("_token_id")) continue;
    const Json pattern = value;
    value = Json::array();
    for (int64_t i = 0; i < layers; ++i) value.push_back(pattern[static_cast<size_t>(i % before)]);
  }
}

}  // namespace

void add_shape_options(Options& options) {
  std::string presets;
  for (const std::string& name : kPresets) presets += (presets.empty() ? "" : ", ") + name;
  options.text("family", "NAME", "llama", "start from its first published model: " + presets);
  options.text("like", "CONFIG.json", "", "start from this configuration of any supported family");
  options.text("bytes", "SIZE", "", "as many layers as this takes: 20GB, 512MiB, ...");
  for (const auto& [name, help] :
       {std::pair{"layers", "layers"}, std::pair{"hidden", "hidden size"},
        std::pair{"intermediate", "intermediate size of dense layers"},
        std::pair{"expert-intermediate", "intermediate size of experts"},
        std::pair{"heads", "attention heads"}, std::pair{"kv-heads", "key and value heads"},
        std::pair{"vocab", "vocabulary"}, std::pair{"experts", "experts of a layer"}}) {
    options.integer_or_auto(name, 1, int64_t{1} << 31,
                            std::string(help) + "; auto: as the configuration says");
  }
  options.choice("dtype", {"bfloat16", "float16", "float32"}, "bfloat16", "type of the weights");
}

SyntheticConfig::SyntheticConfig(const Options& options) {
  const std::string& like = options.get("like");
  if (!like.empty()) {
    if (options.given("family")) throw UsageError("--family and --like exclude each other");
    source_ = like;
    config_ = read_json_file(like);
    if (!config_.is_object()) throw InputError(like + ": expected a JSON object");
    config_.erase("quantization_config");
    family_ = &family_of_config(config_, source_);
  } else {
    const std::string& name = options.get("family");
    if (std::find(kPresets.begin(), kPresets.end(), name) == kPresets.end()) {
      throw UsageError(concat("--family: no sizes are known for '", name, "'",
                              nearest_hint(name, kPresets), "; take a configuration with --like"));
    }
    family_ = &family_named(name);
    source_ = "--family " + name;
    config_ = preset(*family_);
  }
  set_sizes(options);
}

Json& SyntheticConfig::text() {
  const bool wrapped = config_.contains("text_config") && config_["text_config"].is_object();
  return wrapped ? config_["text_config"] : config_;
}

void SyntheticConfig::set_sizes(const Options& options) {
  Json& config = text();
  const auto set = [&](const char* option, const std::vector<std::string>& keys) {
    const int64_t value = options.get_integer(option);
    if (value == 0) return;
    const auto key = std::find_if(keys.begin(), keys.end(),
                                  [&](const std::string& one) { return config.contains(one); });
    if (key == keys.end()) {
      throw UsageError(concat("--", option, ": ", source_, " has no '", keys.front(), "'"));
    }
    config[*key] = value;
  };
  set("hidden", {"hidden_size", "d_model"});
  set("intermediate", {"intermediate_size", "d_ff"});
  set("expert-intermediate", {"moe_intermediate_size"});
  set("heads", {"num_attention_heads", "num_heads"});
  set("kv-heads", {"num_key_value_heads"});
  set("vocab", {"vocab_size"});
  set("experts", {"num_experts", "num_local_experts", "n_routed_experts"});
  // A preset's key and value heads need not suit other heads.
  if (options.get_integer("heads") != 0 && options.get_integer("kv-heads") == 0 &&
      config.contains("num_key_value_heads")) {
    const auto heads = options.get_integer("heads");
    const auto kv_heads = json_member_or<int64_t>(config, "num_key_value_heads", heads, source_);
    if (kv_heads < 1 || heads % kv_heads != 0) config["num_key_value_heads"] = heads;
  }
  if (options.get_integer("layers") != 0) {
    set_layers(config, options.get_integer("layers"), source_);
  }
  // Both spellings of what the type is called; of a whole model and of its text tower.
  for (Json* one : {&config_, &config}) {
    one->erase("torch_dtype");
    (*one)["dtype"] = options.get("dtype");
  }
}

SyntheticModel SyntheticConfig::make(int64_t layers) const {
  SyntheticConfig changed = *this;
  if (layers != 0) set_layers(changed.text(), layers, source_);
  std::unique_ptr<Model> model = family_->make({changed.config_, source_, {}});
  return {std::move(changed.config_), std::move(model)};
}

}  // namespace halftone
