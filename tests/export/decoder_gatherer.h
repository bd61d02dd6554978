#pragma once

#include "tests/export/unified_gatherer.h"

namespace halftone::test {

// What a decoder's unified checkpoint says in config.json and by its names.
struct DecoderShape {
  std::string prefix;  // "model."
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t head_size = 0;
  int64_t vocabulary = 0;
  bool tied = false;
  bool adds_one = false;  // norms are stored without their 1
  bool nvfp4_cache = false;
  std::array<std::string, 3> qkv;
  std::string mixture;                      // "mlp."
  std::array<std::string, 3> expert_names;  // gate, up, down
  std::vector<int64_t> kv_heads;            // of each layer

  DecoderShape(const Json& config, const TensorFile& unified) {
    const Json& text = config.contains("text_config") ? config.at("text_config") : config;
    const std::string embedding = "embed_tokens.weight";
    for (const auto& [name, tensor] : unified) {
      if (!name.ends_with(embedding)) continue;
      prefix = name.substr(0, name.size() - embedding.size());
      vocabulary = tensor.rows();
    }
    layers = text.at("num_hidden_layers");
    heads = text.at("num_attention_heads");
    head_size = text.value("head_dim", text.at("hidden_size").get<int64_t>() / heads);
    tied = unified.count("lm_head.weight") == 0;
    adds_one = text.value("model_type", "").starts_with("gemma");
    const Json& quantization = config.at("quantization_config");
    nvfp4_cache = quantization.value("kv_cache_scheme", Json()) == "NVFP4";
    const bool fused = unified.count(prefix + "layers.0.self_attn.qkv_proj.weight") > 0;
    qkv = {fused ? "qkv_proj" : "q_proj", fused ? "qkv_proj" : "k_proj",
           fused ? "qkv_proj" : "v_proj"};
    const bool mixtral = std::any_of(unified.begin(), unified.end(), [](const auto& entry) {
      return entry.first.find(".block_sparse_moe.") != std::string::npos;
    });
    mixture = mixtral ? "block_sparse_moe." : "mlp.";
    expert_names = mixtral ? std::array<std::string, 3>{"w1", "w3", "w2"}
                           : std::array<std::string, 3>{"gate_proj", "up_proj", "down_proj"};
    for (int64_t layer = 0; layer < layers; ++layer) {
      if (config.contains("block_configs")) {
        const Json& group = config.at("block_configs")
                                .at(static_cast<size_t>(layer))
                                .at("attention")
                                .at("n_heads_in_group");
        kv_heads.push_back(group.is_null() ? heads : heads / group.get<int64_t>());
      } else {
        kv_heads.push_back(text.value("num_key_value_heads", heads));
      }
    }
  }

  std::string layer(int64_t index) const {
    return prefix + "layers." + std::to_string(index) + ".";
  }

  // The rules of divisibility, from shapes alone; empty: it divides.
  std::string why_not(const TensorFile& unified, int64_t tp, int64_t pp) const {
    if (layers % pp != 0) return "layers";
    for (int64_t i = 0; i < layers; ++i) {
      if (unified.count(layer(i) + "self_attn." + qkv[0] + ".weight") == 0) continue;
      const int64_t kv = kv_heads[static_cast<size_t>(i)];
      if (heads % tp != 0 || (kv % tp != 0 && tp % kv != 0)) return "heads";
    }
    for (const auto& [name, tensor] : unified) {
      if (!name.starts_with(prefix + "layers.") || !name.ends_with(".weight")) continue;
      const std::string module = name.substr(0, name.size() - 7);
      const auto is = [&](std::initializer_list<const char*> leaves) {
        return std::any_of(leaves.begin(), leaves.end(), [&](const char* leaf) {
          return module.ends_with(std::string(".") + leaf);
        });
      };
      const auto scale = unified.find(module + ".weight_scale");
      const bool blocks = scale != unified.end() && scale->second.shape.size() == 2;
      const bool int4 = blocks && tensor.dtype == DType::kU8 && scale->second.dtype == DType::kF32;
      if (is({"down_proj", "o_proj", "w2"})) {
        if (tensor.shape[1] % tp != 0) return "columns of " + name;
        if (blocks && scale->second.shape[1] % tp != 0) return "blocks of " + name;
      } else if (is({"gate_proj", "up_proj", "w1", "w3", "gate_up_proj", "linear_attn",
                     "linear_mlp"})) {
        const int64_t rows =
            tensor.rows() * (int4 ? 2 : 1) / (module.ends_with(".gate_up_proj") ? 2 : 1);
        if (rows % (tp * (int4 ? 2 : 1)) != 0) return "rows of " + name;
      }
    }
    return "";
  }
};

class DecoderGatherer : public Gatherer {
 public:
  DecoderGatherer(Ranks& ranks, const DecoderShape& shape, const TensorFile& unified)
      : Gatherer(unified), ranks_(ranks), shape_(shape) {}

  void gather() {
    set(shape_.prefix + "embed_tokens.weight",
        vocabulary(ranks_, 0, "transformer.vocab_embedding.weight", shape_.vocabulary));
    const int64_t per_stage = shape_.layers / ranks_.pp();
    for (int64_t i = 0; i < shape_.layers; ++i) {
      layer(i / per_stage, "transformer.layers." + std::to_string(i % per_stage) + ".",
            shape_.layer(i), shape_.kv_heads[static_cast<size_t>(i)]);
    }
    const int64_t last = ranks_.pp() - 1;
    for (const std::string suffix : {"weight", "bias"}) {
      if (ranks_.has(last, "transformer.ln_f." + suffix)) {
        norm(last, "transformer.ln_f." + suffix, shape_.prefix + "norm." + suffix);
      }
      if (!ranks_.has(last, "lm_head." + suffix)) continue;
      const bool tied = suffix == "weight" && shape_.tied;
      set(tied ? shape_.prefix + "embed_tokens.weight" : "lm_head." + suffix,
          vocabulary(ranks_, last, "lm_head." + suffix, shape_.vocabulary));
    }
    join_pieces();
    ranks_.require_all_taken();
  }

 private:
  void layer(int64_t stage, const std::string& here, const std::string& there, int64_t kv_heads) {
    const std::string attention = here + "attention.";
    const std::string mlp = here + "mlp.";
    if (ranks_.has(stage, attention + "qkv.weight")) {
      const int64_t kv = std::max<int64_t>(kv_heads / ranks_.tp(), 1) * shape_.head_size;
      const int64_t q = shape_.heads / ranks_.tp() * shape_.head_size;
      const int64_t copies = std::max<int64_t>(ranks_.tp() / kv_heads, 1);
      const std::string self = there + "self_attn.";
      column(ranks_, stage, attention + "qkv",
             {{self + shape_.qkv[0], q, 1},
              {self + shape_.qkv[1], kv, copies},
              {self + shape_.qkv[2], kv, copies}});
      row(ranks_, stage, attention + "dense", self + "o_proj");
      for (const std::string which : {"k", "v"}) {
        if (ranks_.has(stage, attention + which + "_cache_scaling_factor")) {
          cache(stage, attention, which, self + which + "_proj." + which + "_scale");
        }
      }
    }
    for (const auto& [name, target] : {std::pair("attn_replacing_linear", "self_attn.linear_attn"),
                                       std::pair("mlp_replacing_linear", "mlp.linear_mlp")}) {
      if (!ranks_.has(stage, here + name + ".weight")) continue;
      const int64_t rows = channels(ranks_.first(stage, here + name + ".weight"));
      column(ranks_, stage, here + name, {{there + target, rows, 1}});
    }
    if (ranks_.has(stage, mlp + "router.weight")) {
      mixture(stage, mlp, there + shape_.mixture);
    } else if (ranks_.has(stage, mlp + "fc.weight")) {
      dense_mlp(stage, mlp, there + "mlp.");
    }
    for (const std::string& name : ranks_.left(stage, here)) plain(stage, name, here, there);
  }

  void dense_mlp(int64_t stage, const std::string& mlp, const std::string& there) {
    const int64_t rows = channels(ranks_.first(stage, mlp + "fc.weight"));
    if (ranks_.has(stage, mlp + "gate.weight")) {
      column(ranks_, stage, mlp + "fc", {{there + "gate_proj", rows, 1}});
      column(ranks_, stage, mlp + "gate", {{there + "up_proj", rows, 1}});
    } else {
      column(ranks_, stage, mlp + "fc",
             {{there + "gate_up_proj", rows / 2, 1}, {there + "gate_up_proj", rows / 2, 1}});
    }
    row(ranks_, stage, mlp + "proj", there + "down_proj");
  }

  void mixture(int64_t stage, const std::string& mlp, const std::string& there) {
    const auto& [gate, up, down] = shape_.expert_names;
    const RankTensor router = ranks_.replicated(stage, mlp + "router.weight");
    require(router.dtype == DType::kF32, mlp + "router.weight", "expected F32");
    set(there + "gate.weight", narrow(router, mlp + "router.weight"));
    std::vector<std::vector<std::string>> fc;
    std::vector<std::vector<std::string>> proj;
    for (int64_t e = 0; e < router.rows(); ++e) {
      const std::string expert = there + "experts." + std::to_string(e) + ".";
      fc.push_back({expert + up, expert + gate});
      proj.push_back({expert + down});
    }
    experts(ranks_, stage, mlp + "fc", fc);
    experts(ranks_, stage, mlp + "proj", proj);
    if (!ranks_.has(stage, mlp + "shared_expert.fc.weight")) return;
    set(there + "shared_expert_gate.weight",
        ranks_.replicated(stage, mlp + "shared_expert_gate.weight"));
    const int64_t rows = channels(ranks_.first(stage, mlp + "shared_expert.fc.weight"));
    column(ranks_, stage, mlp + "shared_expert.fc",
           {{there + "shared_expert.up_proj", rows / 2, 1},
            {there + "shared_expert.gate_proj", rows / 2, 1}});
    row(ranks_, stage, mlp + "shared_expert.proj", there + "shared_expert.down_proj");
  }

  // At least 1 for FP8, a sixth for NVFP4: of the unified form's amax / 448.
  void cache(int64_t stage, const std::string& attention, const std::string& which,
             const std::string& target) {
    const RankTensor scale = ranks_.replicated(stage, attention + which + "_cache_scaling_factor");
    const RankTensor both = ranks_.replicated(stage, attention + "kv_cache_scaling_factor");
    // A cache that was only cast has none.
    const float stored = has(target) ? elements_of<float>(unified(target)).at(0) : 1.0f;
    const float expected =
        shape_.nvfp4_cache ? static_cast<float>(stored / 6.0) : std::max(stored, 1.0f);
    require(scale.shape == std::vector<int64_t>{1} && both.shape == scale.shape, target, "shape");
    require(elements_of<float>(scale).at(0) == expected, target, "another cache scale");
    require(elements_of<float>(both).at(0) >= expected, target, "less than one of its parts");
    if (has(target)) set(target, unified(target));
  }

  void plain(int64_t stage, const std::string& name, const std::string& here,
             const std::string& there) {
    static const std::map<std::string, std::string> kModules{
        {"input_layernorm", "input_layernorm"},
        {"post_layernorm", "post_attention_layernorm"},
        {"pre_feedforward_layernorm", "pre_feedforward_layernorm"},
        {"post_feedforward_layernorm", "post_feedforward_layernorm"},
        {"attention.q_layernorm", "self_attn.q_norm"},
        {"attention.k_layernorm", "self_attn.k_norm"}};
    const size_t dot = name.rfind('.');
    const auto module = kModules.find(name.substr(here.size(), dot - here.size()));
    require(module != kModules.end(), name, "nobody knows this tensor");
    norm(stage, name, there + module->second + name.substr(dot));
  }

  void norm(int64_t stage, const std::string& name, const std::string& target) {
    RankTensor tensor = ranks_.replicated(stage, name);
    if (shape_.adds_one) {
      require(tensor == plus_one(unified(target)), name, "not 1 more");
      tensor = unified(target);
    }
    set(target, tensor);
  }

  Ranks& ranks_;
  const DecoderShape& shape_;
};

}  // namespace halftone::test
