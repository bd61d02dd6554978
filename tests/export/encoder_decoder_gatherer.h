#pragma once

#include "tests/export/unified_gatherer.h"

namespace halftone::test {

// The two checkpoints of T5 and Whisper.
class EncoderDecoderGatherer : public Gatherer {
 public:
  EncoderDecoderGatherer(const Json& config, const TensorFile& unified)
      : Gatherer(unified), config_(config), unified_(unified) {
    t5_ = config.at("model_type") == "t5";
    embedding_ = t5_ ? "shared.weight" : "model.decoder.embed_tokens.weight";
  }

  void gather(const std::string& part, Ranks& ranks) {
    stack(part, ranks);
    join_pieces();
    ranks.require_all_taken();
  }
  static int64_t layers_of(const Json& config, bool decoder) {
    if (config.at("model_type") != "t5")
      return config.at(decoder ? "decoder_layers" : "encoder_layers");
    return decoder ? config.value("num_decoder_layers", config.at("num_layers").get<int64_t>())
                   : config.at("num_layers").get<int64_t>();
  }

 private:
  // Of one layer, there -> here.
  struct Modules {
    std::map<std::string, std::string> attentions;
    std::map<std::string, std::string> mlps;
    std::map<std::string, std::string> norms;
  };

  Modules modules(const std::string& prefix, bool decoder, int64_t layer) const {
    const std::string self = decoder ? "self_attention" : "attention";
    Modules modules;
    if (t5_) {
      const std::string block = prefix + "block." + std::to_string(layer) + ".layer.";
      const std::string mlp = block + (decoder ? "2" : "1");
      const std::string dense = mlp + ".DenseReluDense.";
      const bool gated = unified_.count(dense + "wi_1.weight") > 0;
      modules.attentions[self] = block + "0.SelfAttention";
      modules.norms = {{self + "_layernorm", block + "0.layer_norm"},
                       {"mlp_layernorm", mlp + ".layer_norm"}};
      modules.mlps = {{"fc", dense + (gated ? "wi_0" : "wi")}, {"proj", dense + "wo"}};
      if (gated) modules.mlps["gate"] = dense + "wi_1";
      if (!decoder) return modules;
      modules.attentions["cross_attention"] = block + "1.EncDecAttention";
      modules.norms["cross_attention_layernorm"] = block + "1.layer_norm";
      return modules;
    }
    const std::string block = prefix + "layers." + std::to_string(layer) + ".";
    modules.attentions[self] = block + "self_attn";
    modules.norms = {{self + "_layernorm", block + "self_attn_layer_norm"},
                     {"mlp_layernorm", block + "final_layer_norm"}};
    modules.mlps = {{"fc", block + "fc1"}, {"proj", block + "fc2"}};
    if (!decoder) return modules;
    modules.attentions["cross_attention"] = block + "encoder_attn";
    modules.norms["cross_attention_layernorm"] = block + "encoder_attn_layer_norm";
    return modules;
  }

  void stack(const std::string& part, Ranks& ranks) {
    const bool decoder = part == "decoder";
    const std::string prefix = (t5_ ? "" : "model.") + part + ".";
    if (t5_ || decoder) {
      set(embedding_,
          vocabulary(ranks, 0, "transformer.vocab_embedding.weight", unified(embedding_).rows()));
    }
    if (!t5_) {
      const std::string positions = prefix + "embed_positions.weight";
      set(positions,
          vocabulary(ranks, 0, "transformer.position_embedding.weight", unified(positions).rows()));
    }
    if (!t5_ && !decoder) {
      for (const std::string name : {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"}) {
        RankTensor tensor = ranks.replicated(0, "transformer." + name);
        if (name.ends_with("weight")) {
          require(tensor.shape.back() == 1, name, "a dimension of 1 at the end");
          tensor.shape.pop_back();
        }
        set(prefix + name, tensor);
      }
    }
    const int64_t layers = layers_of(config_, decoder);
    const int64_t per_stage = layers / ranks.pp();
    for (int64_t i = 0; i < layers; ++i) {
      layer(ranks, modules(prefix, decoder, i), prefix, i / per_stage, i % per_stage);
    }
    const std::string last = prefix + (t5_ ? "final_layer_norm" : "layer_norm");
    for (const std::string suffix : {".weight", ".bias"}) {
      if (ranks.has(ranks.pp() - 1, "transformer.ln_f" + suffix)) {
        set(last + suffix, ranks.replicated(ranks.pp() - 1, "transformer.ln_f" + suffix));
      }
    }
    if (!decoder) return;
    const bool own = unified_.count("lm_head.weight") > 0;
    set(own ? "lm_head.weight" : embedding_,
        vocabulary(ranks, ranks.pp() - 1, "lm_head.weight", unified(embedding_).rows()));
  }

  void layer(Ranks& ranks, const Modules& modules, const std::string& prefix, int64_t stage,
             int64_t slot) {
    const std::string here = "transformer.layers." + std::to_string(slot) + ".";
    const int64_t heads =
        config_.at(t5_                                           ? "num_heads"
                   : prefix.find("decoder") != std::string::npos ? "decoder_attention_heads"
                                                                 : "encoder_attention_heads");
    const int64_t size =
        t5_ ? config_.at("d_kv").get<int64_t>() : config_.at("d_model").get<int64_t>() / heads;
    const int64_t rows = heads / ranks.tp() * size;
    for (const auto& [there, module] : modules.attentions) {
      const std::string at = module + ".";
      column(ranks, stage, here + there + ".qkv",
             {{at + (t5_ ? "q" : "q_proj"), rows, 1},
              {at + (t5_ ? "k" : "k_proj"), rows, 1},
              {at + (t5_ ? "v" : "v_proj"), rows, 1}});
      row(ranks, stage, here + there + ".dense", at + (t5_ ? "o" : "out_proj"));
    }
    const int64_t inner = channels(ranks.first(stage, here + "mlp.fc.weight"));
    for (const auto& [there, module] : modules.mlps) {
      if (there == "proj") {
        row(ranks, stage, here + "mlp.proj", module);
      } else {
        column(ranks, stage, here + "mlp." + there, {{module, inner, 1}});
      }
    }
    for (const auto& [there, module] : modules.norms) {
      for (const std::string suffix : {".weight", ".bias"}) {
        if (t5_ && suffix == ".bias") continue;
        set(module + suffix, ranks.replicated(stage, here + there + suffix));
      }
    }
    if (!t5_) return;
    const std::string self = prefix == "decoder." ? "self_attention" : "attention";
    relative_table(ranks, prefix, stage, here + self + ".rel_attn_table");
    if (slot == 0) relative_table(ranks, prefix, stage, "rel_attn_table");
  }

  // [heads, buckets] of [buckets, heads].
  void relative_table(Ranks& ranks, const std::string& prefix, int64_t stage,
                      const std::string& name) {
    const RankTensor whole = cat_rows(ranks.take(stage, name));
    const int64_t heads = whole.shape[0];
    const int64_t buckets = whole.shape[1];
    const auto size = static_cast<size_t>(size_of(whole.dtype));
    RankTensor table{whole.dtype, {buckets, heads}, ""};
    for (int64_t b = 0; b < buckets; ++b) {
      for (int64_t h = 0; h < heads; ++h) {
        table.data.append(whole.data, static_cast<size_t>(h * buckets + b) * size, size);
      }
    }
    set(prefix + "block.0.layer.0.SelfAttention.relative_attention_bias.weight", table);
  }

  const Json& config_;
  const TensorFile& unified_;
  bool t5_ = false;
  std::string embedding_;
};

}  // namespace halftone::test
