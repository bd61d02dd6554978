#include "export/trtllm_config.h"

#include <algorithm>
#include <cmath>

#include "export/encoder_decoder_config.h"
#include "export/trtllm_layout.h"
#include "export/trtllm_quantization.h"
#include "model/config_reader.h"

namespace halftone {
namespace {

const Json& text_config(const Json& config) {
  const auto found = config.find("text_config");
  return found != config.end() && found->is_object() ? *found : config;
}

// The object that holds what belongs to the rotary embedding of global layers: transformers 5 has
// one in "rope_parameters", perhaps one for each kind of layer; older releases "rope_scaling".
Json rope_object(const Json& config) {
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const auto found = config.find(key);
    if (found == config.end() || !found->is_object()) continue;
    const auto global = found->find("full_attention");
    return global != found->end() && global->is_object() ? *global : *found;
  }
  return Json::object();
}

class ConfigWriter {
 public:
  ConfigWriter(const UnifiedForm& form, const TrtPart& part, const Parallelism& parallel)
      : form_(form),
        part_(part),
        parallel_(parallel),
        decoder_(form.family.trtllm_decoder),
        source_(text_config(form.config), "config.json"),
        rope_(rope_object(source_.json())) {
    for (const StageSpec& stage : form.model.stages()) inspect(stage);
  }

  Json write() {
    add_generic();
    if (decoder_ == "llama") add_llama();
    if (decoder_ == "qwen") add_qwen();
    if (decoder_ == "gemma3") add_gemma3();
    if (decoder_ == "phi3") add_phi3();
    if (decoder_ == "deci") add_layer_configs();
    if (experts_ > 0 && decoder_ != "qwen") config_["moe"] = moe();
    config_["mapping"] = {
        {"world_size", parallel_.ranks()}, {"tp_size", parallel_.tp}, {"pp_size", parallel_.pp}};
    if (experts_ > 0) {
      config_["mapping"]["moe_tp_size"] = parallel_.tp;
      config_["mapping"]["moe_ep_size"] = 1;
    }
    config_["quantization"] = trtllm_quantization(form_, part_, parallel_).config;
    return std::move(config_);
  }

 private:
  // Sizes that config.json may leave to defaults.
  void inspect(const StageSpec& stage) {
    experts_ = std::max<int64_t>(experts_, stage.experts);
    for (const TrtModule& module : trtllm_modules(stage)) {
      const LinearSite& linear = stage.linears[module.linears.front()];
      if (module.name == "attention.qkv" && heads_ == 0) {
        heads_ = query_heads(stage, module);
        kv_heads_ = stage.attentions.front().kv_heads;
        head_size_ = stage.attentions.front().key_dim;
        qkv_bias_ = !linear.bias.empty();
      }
      if (module.name == "attention.dense") dense_bias_ = !linear.bias.empty();
      if (module.name == "mlp.proj") {
        widest_ = std::max(widest_, linear.in);
        mlp_bias_ = !linear.bias.empty();
      }
      if (module.name == "mlp.shared_expert.proj") shared_width_ = linear.in;
      if (module.name == "mlp.proj" && linear.expert >= 0) expert_width_ = linear.in;
    }
  }

  void add_generic() {
    const bool bf16 = trtllm_dtype(form_) == DType::kBF16;
    const LinearSite& head = form_.model.stages().back().linears.front();
    config_["producer"] = {{"name", "modelopt"}, {"version", "0.47.0"}};
    config_["architecture"] = form_.family.architectures.front();
    config_["dtype"] = bf16 ? "bfloat16" : "float16";
    config_["logits_dtype"] = "float16";
    config_["num_hidden_layers"] = part_.layers.size();
    config_["num_attention_heads"] = heads_;
    config_["num_key_value_heads"] = kv_heads_;
    config_["hidden_size"] = form_.model.hidden_size();
    config_["norm_epsilon"] = norm_epsilon();
    config_["vocab_size"] = vocabulary_rows(form_, parallel_.tp).stored;
    config_["max_position_embeddings"] = form_.model.max_positions();
    config_["hidden_act"] = activation();
    config_["use_parallel_embedding"] = !decoder_.starts_with("gemma") || parallel_.tp > 1;
    config_["embedding_sharding_dim"] = 0;
    config_["head_size"] = head_size_;
    config_["intermediate_size"] = source_.size_or("intermediate_size", widest_);
    config_["position_embedding_type"] = position_type();
    add_longrope();
    config_["share_embedding_table"] = shares_head(form_, parallel_);
    config_["residual_mlp"] = false;
    config_["bias"] = dense_bias_;
    config_["rotary_pct"] = rotary_share();
    config_["decoder"] = decoder_;
    config_["rmsnorm"] = form_.family.name != "phimoe";
    config_["lm_head_bias"] = !head.bias.empty();
    config_["rotary_base"] = rotary_base();
    const Json scaling = rotary_scaling();
    const bool always = decoder_ != "llama" && decoder_ != "deci";
    if (!scaling.is_null() || always) config_["rotary_scaling"] = scaling;
  }

  bool is_longrope() const { return rope_.contains("long_factor"); }

  double norm_epsilon() const {
    const bool coarse = decoder_ == "phi3" || form_.family.name == "mixtral";
    for (const char* key : {"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"}) {
      if (source_.has(key)) return source_.number_or(key, 0.0);
    }
    return coarse ? 1e-5 : 1e-6;
  }

  std::string activation() const {
    if (experts_ > 0 || decoder_ == "phi3") return "swiglu";
    return decoder_.starts_with("gemma") ? "gelu_pytorch_tanh" : "silu";
  }

  std::string rope_type() const {
    for (const char* key : {"rope_type", "type"}) {
      if (rope_.contains(key) && rope_.at(key).is_string()) return rope_.at(key).get<std::string>();
    }
    return "default";
  }

  std::string position_type() const {
    if (is_longrope()) return "long_rope";
    return rope_type() == "yarn" ? "yarn" : "rope_gpt_neox";
  }

  double rope_number(const char* key, double fallback) const {
    if (source_.has(key)) return source_.number_or(key, fallback);
    const auto found = rope_.find(key);
    return found != rope_.end() && found->is_number() ? found->get<double>() : fallback;
  }

  double rotary_share() const { return rope_number("partial_rotary_factor", 1.0); }

  // What the families do without it is in their files too.
  double rotary_base() const {
    const std::string& name = form_.family.name;
    const bool large = name == "mixtral" || name == "phimoe" || name == "gemma3";
    return rope_number("rope_theta", large ? 1e6 : 10000.0);
  }

  // As config.json has it; what stands elsewhere here, or is the default, is left out.
  Json rotary_scaling() const {
    if (rope_.empty() || is_longrope() || rope_type() == "default") return nullptr;
    Json scaling = rope_;
    scaling.erase("rope_theta");
    scaling.erase("partial_rotary_factor");
    return scaling;
  }

  void add_longrope() {
    if (!is_longrope()) return;
    config_["original_max_position_embeddings"] = static_cast<int64_t>(rope_number(
        "original_max_position_embeddings", static_cast<double>(form_.model.max_positions())));
    config_["longrope_scaling_short_factors"] = rope_.at("short_factor");
    config_["longrope_scaling_long_factors"] = rope_.at("long_factor");
    if (experts_ == 0) return;
    config_["longrope_short_mscale"] = rope_number("short_mscale", 1.0);
    config_["longrope_long_mscale"] = rope_number("long_mscale", 1.0);
  }

  void add_llama() {
    config_["attn_bias"] = qkv_bias_;
    config_["mlp_bias"] = mlp_bias_;
  }

  void add_qwen() {
    std::string type = form_.family.name;
    std::replace(type.begin(), type.end(), '-', '_');
    config_["qwen_type"] = type;
    config_["attn_bias"] = qkv_bias_;
    config_["mlp_bias"] = mlp_bias_;
    config_["seq_length"] = source_.size_or("seq_length", 8192);
    config_["use_logn_attn"] = false;
    config_["disable_weight_only_quant_plugin"] = false;
    config_["moe"] = moe();
    config_["moe_intermediate_size"] = expert_width_;
    config_["moe_shared_expert_intermediate_size"] = shared_width_;
    config_["tie_word_embeddings"] = source_.flag_or("tie_word_embeddings", false);
    config_["num_labels"] = 1;
  }

  void add_gemma3() {
    config_["attn_bias"] = qkv_bias_;
    config_["mlp_bias"] = mlp_bias_;
    config_["inter_layernorms"] = true;
    config_["query_pre_attn_scalar"] = source_.json().value("query_pre_attn_scalar", Json(256));
    config_["final_logit_softcapping"] = source_.json().value("final_logit_softcapping", Json());
    const int64_t pattern = sliding_pattern();
    config_["_sliding_window_pattern"] = pattern;
    config_["sliding_window_pattern"] = pattern;
    config_["rope_local_base_freq"] = local_base();
    config_["sliding_window"] = source_.json().value("sliding_window", Json(4096));
  }

  // Every so many layers one sees everything: the first of the list tells.
  int64_t sliding_pattern() const {
    const std::vector<std::string> types = source_.texts("layer_types");
    const auto global = std::find(types.begin(), types.end(), "full_attention");
    if (global != types.end()) return global - types.begin() + 1;
    return source_.size_or("sliding_window_pattern", source_.size_or("_sliding_window_pattern", 6));
  }

  double local_base() const {
    const auto parameters = source_.json().find("rope_parameters");
    if (parameters != source_.json().end() && parameters->is_object() &&
        parameters->contains("sliding_attention")) {
      const Json& local = parameters->at("sliding_attention");
      if (local.is_object() && local.contains("rope_theta") && local.at("rope_theta").is_number()) {
        return local.at("rope_theta").get<double>();
      }
    }
    return source_.positive_or("rope_local_base_freq", 10000.0);
  }

  void add_phi3() {
    config_["tie_word_embeddings"] = source_.flag_or("tie_word_embeddings", false);
    if (experts_ > 0) config_["attention_bias"] = qkv_bias_;
  }

  Json moe() const {
    if (experts_ == 0) return {{"num_experts", 0}, {"top_k", 0}, {"normalization_mode", 0}};
    constexpr int kNone = 0;
    constexpr int kRenormalize = 1;
    constexpr int kSparseMixer = 2;
    const int64_t top_k = source_.size("num_experts_per_tok");
    int mode = kRenormalize;
    if (decoder_ == "phi3") mode = kSparseMixer;
    if (decoder_ == "qwen" && !source_.flag_or("norm_topk_prob", false)) mode = kNone;
    Json moe{{"num_experts", experts_}, {"top_k", top_k}, {"normalization_mode", mode}};
    if (mode == kSparseMixer) {
      moe["sparse_mixer_epsilon"] = source_.positive_or("router_jitter_noise", 0.01);
    }
    return moe;
  }

  // Nemotron-NAS: what stands in each layer.
  void add_layer_configs() {
    Json list = Json::array();
    for (const size_t index : part_.layers) {
      const StageSpec& stage = form_.model.stages()[index];
      Json attention{{"impl", "no_op"}, {"num_key_value_heads", nullptr}};
      Json ffn{{"impl", "no_op"}, {"intermediate_size", nullptr}};
      for (const TrtModule& module : trtllm_modules(stage)) {
        if (module.name == "attention.qkv") {
          attention = {{"impl", "attention"},
                       {"num_key_value_heads", stage.attentions.front().kv_heads}};
        } else if (module.name == "attn_replacing_linear") {
          attention["impl"] = "linear";
        } else if (module.name == "mlp_replacing_linear") {
          ffn["impl"] = "linear";
        } else if (module.name == "mlp.proj") {
          ffn = {{"impl", "mlp"}, {"intermediate_size", stage.linears[module.linears.front()].in}};
        }
      }
      list.push_back({{"attention", attention}, {"ffn", ffn}});
    }
    config_["layer_configs"] = list;
  }

  const UnifiedForm& form_;
  const TrtPart& part_;
  Parallelism parallel_;
  std::string decoder_;
  ConfigReader source_;
  Json rope_;
  Json config_;
  int64_t experts_ = 0;
  int64_t heads_ = 0;
  int64_t kv_heads_ = 0;
  int64_t head_size_ = 0;
  int64_t widest_ = 0;
  int64_t expert_width_ = 0;
  int64_t shared_width_ = 0;
  bool qkv_bias_ = false;
  bool dense_bias_ = false;
  bool mlp_bias_ = false;
};

}  // namespace

Json trtllm_config(const UnifiedForm& form, const TrtPart& part, const Parallelism& parallel) {
  if (!part.folder.empty()) return encoder_decoder_config(form, part, parallel);
  return ConfigWriter(form, part, parallel).write();
}

Json trtllm_quant_cfg(const UnifiedForm& form, const TrtPart& part, const Parallelism& parallel) {
  return trtllm_quantization(form, part, parallel).layers;
}

}  // namespace halftone
