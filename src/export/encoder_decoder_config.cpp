#include "export/encoder_decoder_config.h"

#include <algorithm>
#include <cmath>

#include "export/trtllm_layout.h"
#include "export/trtllm_quantization.h"
#include "model/config_reader.h"

namespace halftone {
namespace {

// Sizes of a stack, from its first layer.
struct StackSizes {
  int64_t heads = 0;
  int64_t head_size = 0;
  int64_t intermediate = 0;
  bool gated = false;
};

StackSizes sizes_of(const UnifiedForm& form, const TrtPart& part) {
  const StageSpec& stage = form.model.stages()[part.layers.front()];
  StackSizes sizes;
  for (const TrtModule& module : trtllm_modules(stage)) {
    if (is_qkv(module) && sizes.heads == 0) {
      sizes.heads = query_heads(stage, module);
      sizes.head_size = attention_of(stage, module).key_dim;
    }
    sizes.gated = sizes.gated || module.name == "mlp.gate";
    if (module.name == "mlp.proj") {
      sizes.intermediate = stage.linears[module.linears.front()].in;
    }
  }
  return sizes;
}

class PartConfigWriter {
 public:
  PartConfigWriter(const UnifiedForm& form, const TrtPart& part, const Parallelism& parallel)
      : form_(form),
        part_(part),
        parallel_(parallel),
        source_(form.config, "config.json"),
        t5_(form.family.trtllm_decoder == "t5"),
        sizes_(sizes_of(form, part)) {}

  Json write() {
    add_generic();
    if (!t5_) add_whisper();
    add_common();
    if (part_.decoder) add_decoder();
    return std::move(config_);
  }

 private:
  void add_generic() {
    const bool bf16 = trtllm_dtype(form_) == DType::kBF16;
    config_["producer"] = {{"name", "modelopt"}, {"version", "0.47.0"}};
    config_["architecture"] = part_.decoder ? "DecoderModel"
                              : t5_         ? "EncoderModel"
                                            : "WhisperEncoder";
    config_["dtype"] = bf16 ? "bfloat16" : "float16";
    config_["logits_dtype"] = "float16";
    config_["num_hidden_layers"] = part_.layers.size();
    config_["num_attention_heads"] = sizes_.heads;
    config_["num_key_value_heads"] = sizes_.heads;
    config_["hidden_size"] = form_.model.hidden_size();
    config_["norm_epsilon"] = t5_ ? source_.number_or("layer_norm_epsilon", 1e-6) : 1e-5;
    config_["vocab_size"] = vocabulary_rows(form_, parallel_.tp).stored;
    config_["max_position_embeddings"] = positions();
    config_["hidden_act"] = activation();
    config_["use_parallel_embedding"] = true;
    config_["embedding_sharding_dim"] = 0;
    config_["head_size"] = sizes_.head_size;
    config_["intermediate_size"] = sizes_.intermediate;
    config_["position_embedding_type"] = t5_ ? "relative" : "learned_absolute";
    config_["share_embedding_table"] = false;
    config_["residual_mlp"] = false;
    config_["bias"] = !t5_;
    config_["rotary_pct"] = 1.0;
    config_["decoder"] = form_.family.trtllm_decoder;
    config_["rmsnorm"] = t5_;
    config_["lm_head_bias"] = false;
    config_["mapping"] = {
        {"world_size", parallel_.ranks()}, {"tp_size", parallel_.tp}, {"pp_size", parallel_.pp}};
    config_["quantization"] = trtllm_quantization(form_, part_, parallel_).config;
  }

  int64_t positions() const {
    if (t5_) return source_.size_or("n_positions", 2048);
    return part_.decoder ? source_.size_or("max_target_positions", 448)
                         : source_.size_or("max_source_positions", 1500);
  }

  // "gated-gelu" is the tanh one in the published models.
  std::string activation() const {
    if (!t5_) return source_.text_or("activation_function", "gelu");
    const bool mt5 = form_.family.name == "mt5";
    const std::string name = source_.text_or("feed_forward_proj", mt5 ? "gated-gelu" : "relu");
    if (name == "gated-gelu") return "gelu_new";
    return name.starts_with("gated-") ? name.substr(name.find('-') + 1) : name;
  }

  void add_whisper() {
    constexpr int64_t kTokensBeforeLanguages = 51765;
    constexpr int64_t kMultilingual = 51865;
    const int64_t vocabulary = form_.model.vocabulary();
    const int64_t languages =
        vocabulary - kTokensBeforeLanguages - (vocabulary >= kMultilingual ? 1 : 0);
    config_["n_mels"] = source_.size_or("num_mel_bins", 80);
    config_["num_languages"] = std::max<int64_t>(languages, 0);
  }

  void add_common() {
    constexpr int kLayerNorm = 0;
    constexpr int kRmsNorm = 1;
    config_["has_position_embedding"] = !t5_;
    config_["layernorm_type"] = t5_ ? kRmsNorm : kLayerNorm;
    config_["has_attention_qkvo_bias"] = !t5_;
    config_["has_mlp_bias"] = !t5_;
    config_["has_model_final_layernorm"] = true;
    config_["mlp_type"] = sizes_.gated ? 1 : 0;
    config_["use_prompt_tuning"] = false;
    config_["has_embedding_layernorm"] = false;
    config_["has_embedding_scale"] = !t5_ && source_.flag_or("scale_embedding", false);
    config_["ffn_hidden_size"] = sizes_.intermediate;
    config_["q_scaling"] = t5_ ? 1.0 / std::sqrt(static_cast<double>(sizes_.head_size)) : 1.0;
    config_["layernorm_position"] = 0;
    config_["relative_attention"] = t5_;
    config_["max_distance"] = t5_ ? source_.size_or("relative_attention_max_distance", 128) : 0;
    config_["num_buckets"] = t5_ ? source_.size_or("relative_attention_num_buckets", 32) : 0;
    config_["model_type"] = form_.family.trtllm_decoder;
    config_["use_implicit_relative_attention"] = false;
  }

  void add_decoder() {
    const StackSizes encoder = sizes_of(form_, trtllm_parts(form_.model).front());
    const LinearSite& head = form_.model.stages().back().linears.front();
    const bool tied = head.weight != head.name + ".weight";
    config_["rescale_before_lm_head"] =
        t5_ && source_.flag_or("scale_decoder_outputs", tied && form_.family.name == "t5");
    config_["encoder_hidden_size"] = form_.model.hidden_size();
    config_["encoder_num_heads"] = encoder.heads;
    config_["encoder_head_size"] = encoder.head_size;
    for (const char* key :
         {"decoder_start_token_id", "eos_token_id", "bos_token_id", "pad_token_id"}) {
      config_[key] = source_.json().value(key, Json());
    }
  }

  const UnifiedForm& form_;
  const TrtPart& part_;
  Parallelism parallel_;
  ConfigReader source_;
  bool t5_;
  StackSizes sizes_;
  Json config_;
};

}  // namespace

Json encoder_decoder_config(const UnifiedForm& form, const TrtPart& part,
                            const Parallelism& parallel) {
  return PartConfigWriter(form, part, parallel).write();
}

}  // namespace halftone
