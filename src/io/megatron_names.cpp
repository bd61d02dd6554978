#include "io/megatron_names.h"

#include <algorithm>
#include <array>
#include <functional>
#include <optional>
#include <string_view>

#include "core/error.h"
#include "core/log.h"
#include "io/pickle_fields.h"
#include "io/safetensors.h"
#include "io/shown_name.h"

namespace halftone {
namespace {

constexpr std::array<std::string_view, 7> kModelTypes{"llama",     "mistral", "mixtral",  "qwen2",
                                                      "qwen2_moe", "qwen3",   "qwen3_moe"};

// How a stored tensor is cut.
enum class Cut {
  kWhole,
  kQkv,         // for each group of heads its queries, its key, its value
  kGated,       // gate above up
  kVocabulary,  // rows beyond the vocabulary are padding
};

struct Entry {
  std::string_view stored;
  Cut cut;
  // Of the model; one for each part.
  std::array<std::string_view, 3> names;
};

// Below "decoder.layers.N.".
constexpr std::array kLayerEntries{
    Entry{"input_layernorm.weight", Cut::kWhole, {"input_layernorm.weight"}},
    Entry{"self_attention.linear_qkv.layer_norm_weight", Cut::kWhole, {"input_layernorm.weight"}},
    Entry{"self_attention.linear_qkv.weight",
          Cut::kQkv,
          {"self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"}},
    Entry{"self_attention.linear_qkv.bias",
          Cut::kQkv,
          {"self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"}},
    Entry{"self_attention.q_layernorm.weight", Cut::kWhole, {"self_attn.q_norm.weight"}},
    Entry{"self_attention.k_layernorm.weight", Cut::kWhole, {"self_attn.k_norm.weight"}},
    Entry{"self_attention.linear_proj.weight", Cut::kWhole, {"self_attn.o_proj.weight"}},
    Entry{"self_attention.linear_proj.bias", Cut::kWhole, {"self_attn.o_proj.bias"}},
    Entry{"pre_mlp_layernorm.weight", Cut::kWhole, {"post_attention_layernorm.weight"}},
    Entry{"mlp.linear_fc1.layer_norm_weight", Cut::kWhole, {"post_attention_layernorm.weight"}},
    Entry{"mlp.linear_fc1.weight", Cut::kGated, {"mlp.gate_proj.weight", "mlp.up_proj.weight"}},
    Entry{"mlp.linear_fc1.weight_w", Cut::kWhole, {"mlp.gate_proj.weight"}},
    Entry{"mlp.linear_fc1.weight_v", Cut::kWhole, {"mlp.up_proj.weight"}},
    Entry{"mlp.linear_fc1.bias", Cut::kGated, {"mlp.gate_proj.bias", "mlp.up_proj.bias"}},
    Entry{"mlp.linear_fc2.weight", Cut::kWhole, {"mlp.down_proj.weight"}},
    Entry{"mlp.linear_fc2.bias", Cut::kWhole, {"mlp.down_proj.bias"}},
    Entry{"mlp.router.weight", Cut::kWhole, {"MOE.gate.weight"}},
    Entry{"mlp.shared_experts.linear_fc1.weight",
          Cut::kGated,
          {"mlp.shared_expert.gate_proj.weight", "mlp.shared_expert.up_proj.weight"}},
    Entry{"mlp.shared_experts.linear_fc1.weight_w",
          Cut::kWhole,
          {"mlp.shared_expert.gate_proj.weight"}},
    Entry{"mlp.shared_experts.linear_fc1.weight_v",
          Cut::kWhole,
          {"mlp.shared_expert.up_proj.weight"}},
    Entry{"mlp.shared_experts.linear_fc2.weight",
          Cut::kWhole,
          {"mlp.shared_expert.down_proj.weight"}},
    Entry{"mlp.shared_experts.gate_weight", Cut::kWhole, {"mlp.shared_expert_gate.weight"}},
};

// Below an expert.
constexpr std::array kExpertEntries{
    Entry{"linear_fc1.weight", Cut::kGated, {"GATE.weight", "UP.weight"}},
    Entry{"linear_fc1.weight_w", Cut::kWhole, {"GATE.weight"}},
    Entry{"linear_fc1.weight_v", Cut::kWhole, {"UP.weight"}},
    Entry{"linear_fc2.weight", Cut::kWhole, {"DOWN.weight"}},
};

constexpr std::array kOtherEntries{
    Entry{"embedding.word_embeddings.weight", Cut::kVocabulary, {"model.embed_tokens.weight"}},
    Entry{"output_layer.weight", Cut::kVocabulary, {"lm_head.weight"}},
    Entry{"decoder.final_layernorm.weight", Cut::kWhole, {"model.norm.weight"}},
};

template <size_t N>
const Entry* find_entry(const std::array<Entry, N>& entries, std::string_view name) {
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [&](const Entry& entry) { return entry.stored == name; });
  return found == entries.end() ? nullptr : &*found;
}

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// "12." in front.
std::optional<int64_t> take_number(std::string_view& text) {
  const size_t dot = text.find('.');
  if (dot == 0 || dot == text.npos || dot > 9) return std::nullopt;
  int64_t number = 0;
  for (const char digit : text.substr(0, dot)) {
    if (digit < '0' || digit > '9') return std::nullopt;
    number = 10 * number + (digit - '0');
  }
  text.remove_prefix(dot + 1);
  return number;
}

// Maps one entry: what its name says first, then what is cut out of it.
class EntryMapper {
 public:
  EntryMapper(const std::string& key, const std::vector<int64_t>& shape, const MegatronShape& model,
              const std::string& source)
      : key_(key), shape_(shape), model_(model), source_(source) {}

  std::vector<MappedTensor> map() {
    const std::string plain = plain_key(key_);
    std::string_view rest = plain;
    if (product_of(shape_, 1, where()) == 0) fail("is empty");
    if (const Entry* entry = find_entry(kOtherEntries, rest)) {
      cut(*entry, 0, [](std::string_view name) { return std::string(name); });
    } else if (take_prefix(rest, "decoder.layers.")) {
      map_layers(rest);
    } else {
      fail_unknown();
    }
    return std::move(tensors_);
  }

 private:
  std::string where() const { return concat(source_, ": tensor ", shown_name(key_)); }
  [[noreturn]] void fail(const std::string& text) const {
    throw InputError(concat(where(), " of ", shape_text(shape_), " ", text));
  }
  [[noreturn]] void fail_unknown() const {
    fail(concat("has no place in a model of the type '", model_.model_type, "'"));
  }

  // Calls for the one part that the name says, or for all along the first dimension.
  void for_each_part(std::optional<int64_t> one, int64_t count, const char* what,
                     const std::function<void(int64_t, int64_t)>& visit) {
    if (one) {
      if (*one >= count) fail(concat("is beyond the ", count, " ", what, " of config.json"));
      return visit(*one, 0);
    }
    if (shape_.size() <= axes_ || shape_[axes_] != count) {
      fail(concat("is expected to hold the ", count, " ", what, " of config.json in dimension ",
                  axes_));
    }
    ++axes_;
    const int64_t size = inner();
    for (int64_t i = 0; i < count; ++i) visit(i, i * size);
    --axes_;
  }

  // Elements below the axes over which is counted.
  int64_t inner() const {
    int64_t size = 1;
    for (size_t i = axes_; i < shape_.size(); ++i) size *= shape_[i];
    return size;
  }

  void map_layers(std::string_view rest) {
    const std::optional<int64_t> layer = take_number(rest);
    for_each_part(layer, model_.layers, "layers", [&](int64_t index, int64_t from) {
      const std::string prefix = concat("model.layers.", index, ".");
      std::string_view expert = rest;
      if (take_prefix(expert, "mlp.experts.experts.") ||
          take_prefix(expert, "mlp.experts.local_experts.")) {
        return map_experts(expert, prefix, from);
      }
      const Entry* entry = find_entry(kLayerEntries, rest);
      if (entry == nullptr) fail_unknown();
      cut(*entry, from, [&](std::string_view name) { return prefix + layer_name(name); });
    });
  }

  void map_experts(std::string_view rest, const std::string& prefix, int64_t layer_from) {
    if (model_.experts == 0) fail_unknown();
    const std::optional<int64_t> expert = take_number(rest);
    const Entry* entry = find_entry(kExpertEntries, rest);
    if (entry == nullptr) fail_unknown();
    for_each_part(expert, model_.experts, "experts", [&](int64_t index, int64_t from) {
      cut(*entry, layer_from + from, [&](std::string_view name) {
        return concat(prefix, moe_name(), ".experts.", index, ".", expert_name(name));
      });
    });
  }

  const char* moe_name() const {
    return model_.model_type == "mixtral" ? "block_sparse_moe" : "mlp";
  }
  std::string layer_name(std::string_view name) const {
    if (!take_prefix(name, "MOE")) return std::string(name);
    if (model_.experts == 0) fail_unknown();
    return concat(moe_name(), name);
  }
  std::string expert_name(std::string_view name) const {
    const bool short_names = model_.model_type == "mixtral";
    if (take_prefix(name, "GATE")) return concat(short_names ? "w1" : "gate_proj", name);
    if (take_prefix(name, "UP")) return concat(short_names ? "w3" : "up_proj", name);
    take_prefix(name, "DOWN");
    return concat(short_names ? "w2" : "down_proj", name);
  }

  template <typename Name>
  void cut(const Entry& entry, int64_t from, const Name& name) {
    const std::vector<int64_t> shape(shape_.begin() + static_cast<ptrdiff_t>(axes_), shape_.end());
    if (shape.empty()) fail("lacks the dimensions of a weight");
    const int64_t rows = shape.front();
    const int64_t row = inner() / rows;
    const auto add = [&](size_t part, int64_t part_rows, std::vector<ElementRun> runs) {
      std::vector<int64_t> part_shape = shape;
      part_shape.front() = part_rows;
      for (ElementRun& run : runs) {
        run.from = from + run.from * row;
        run.to *= row;
        run.count *= row;
      }
      tensors_.push_back({name(entry.names[part]), std::move(part_shape), std::move(runs)});
    };
    switch (entry.cut) {
      case Cut::kWhole:
        return add(0, rows, {{0, 0, rows}});
      case Cut::kGated:
        if (rows % 2 != 0) fail("is expected to hold gate and up in equal halves");
        add(0, rows / 2, {{0, 0, rows / 2}});
        return add(1, rows / 2, {{rows / 2, 0, rows / 2}});
      case Cut::kVocabulary:
        if (rows < model_.vocabulary) {
          fail(concat("has fewer rows than the vocabulary of config.json, ", model_.vocabulary));
        }
        return add(0, model_.vocabulary, {{0, 0, model_.vocabulary}});
      case Cut::kQkv:
        return cut_qkv(rows, add);
    }
  }

  template <typename Add>
  void cut_qkv(int64_t rows, const Add& add) {
    const int64_t queries = model_.heads / model_.groups * model_.head_dim;
    const int64_t group = queries + 2 * model_.head_dim;
    if (rows != model_.groups * group) {
      fail(concat("is expected to have ", model_.groups * group, " rows: ", model_.heads,
                  " heads in ", model_.groups, " groups of head_dim ", model_.head_dim));
    }
    const std::array starts{int64_t{0}, queries, queries + model_.head_dim};
    for (size_t part = 0; part < starts.size(); ++part) {
      const int64_t size = part == 0 ? queries : model_.head_dim;
      std::vector<ElementRun> runs;
      for (int64_t g = 0; g < model_.groups; ++g) {
        runs.push_back({g * group + starts[part], g * size, size});
      }
      add(part, model_.groups * size, std::move(runs));
    }
  }

  const std::string& key_;
  const std::vector<int64_t>& shape_;
  const MegatronShape& model_;
  const std::string& source_;
  size_t axes_ = 0;  // dimensions over which layers and experts are counted
  std::vector<MappedTensor> tensors_;
};

}  // namespace

MegatronShape megatron_shape(const Json& config, const std::string& source) {
  MegatronShape model;
  model.model_type = json_member<std::string>(config, "model_type", source);
  if (std::find(kModelTypes.begin(), kModelTypes.end(), model.model_type) == kModelTypes.end()) {
    std::string known;
    for (const std::string_view type : kModelTypes)
      known += concat(known.empty() ? "" : ", ", type);
    throw InputError(concat(source, ": Megatron checkpoints of the model_type ",
                            shown_name(model.model_type), " are not read; supported are ", known));
  }
  const auto size = [&](const char* key, int64_t fallback) {
    const int64_t value = json_member_or<int64_t>(config, key, fallback, source);
    // Products of any three stay in range.
    constexpr int64_t kLargest = int64_t{1} << 20;
    if (value < 0 || value > kLargest) {
      throw InputError(concat(source, ": '", key, "' is ", value, "; expected a size"));
    }
    return value;
  };
  model.layers = size("num_hidden_layers", 0);
  model.heads = size("num_attention_heads", 0);
  model.groups = size("num_key_value_heads", model.heads);
  const int64_t hidden = size("hidden_size", 0);
  model.vocabulary = json_member_or<int64_t>(config, "vocab_size", 0, source);
  const bool sound = model.layers > 0 && model.heads > 0 && model.groups > 0 && hidden > 0 &&
                     model.vocabulary > 0 && model.heads % model.groups == 0;
  if (!sound) {
    throw InputError(concat(source, ": expected num_hidden_layers, num_attention_heads, ",
                            "num_key_value_heads that divide them, hidden_size and vocab_size"));
  }
  model.head_dim = size("head_dim", hidden / model.heads);
  for (const char* key : {"num_local_experts", "num_experts"}) {
    if (model.experts == 0) model.experts = size(key, 0);
  }
  return model;
}

std::string plain_key(const std::string& key) {
  std::string_view rest = key;
  while (take_prefix(rest, "module.") || take_prefix(rest, "model.")) {
  }
  return std::string(rest);
}

std::string reason_to_drop(const std::string& key) {
  const std::string plain = plain_key(key);
  for (const std::string_view start : {"optimizer", "chained_", "opt_param_scheduler"}) {
    if (plain.starts_with(start)) return "state of the optimizer";
  }
  for (const std::string_view start : {"rng_state", "rerun_state_machine"}) {
    if (plain.starts_with(start)) return "state of the training run";
  }
  if (plain.find("._extra_state") != plain.npos || plain.starts_with("_extra_state")) {
    return "scales and other state of Transformer Engine, which a quantized model sets anew";
  }
  if (plain.ends_with("rotary_pos_emb.inv_freq")) return "follows from config.json";
  return {};
}

std::vector<MappedTensor> map_megatron_tensor(const std::string& key,
                                              const std::vector<int64_t>& shape,
                                              const MegatronShape& model,
                                              const std::string& source) {
  return EntryMapper(key, shape, model, source).map();
}

}  // namespace halftone
