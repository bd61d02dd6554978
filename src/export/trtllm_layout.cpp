#include "export/trtllm_layout.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/log.h"
#include "export/hf_layout.h"
#include "export/trtllm_module.h"

namespace halftone {
namespace {

enum class Stack : uint8_t { kAny, kEncoder, kDecoder };

struct PlainModule {
  const char* source;  // within a layer of the unified checkpoint
  const char* target;
  Stack stack = Stack::kAny;  // of models with an encoder
};

// Modules of a layer that are no linears there either.
constexpr std::array kPlainModules{
    PlainModule{"input_layernorm", "input_layernorm"},
    PlainModule{"post_attention_layernorm", "post_layernorm"},
    PlainModule{"pre_feedforward_layernorm", "pre_feedforward_layernorm"},
    PlainModule{"post_feedforward_layernorm", "post_feedforward_layernorm"},
    PlainModule{"self_attn.q_norm", "attention.q_layernorm"},
    PlainModule{"self_attn.k_norm", "attention.k_layernorm"},
    PlainModule{"mlp.gate", "mlp.router"},
    PlainModule{"block_sparse_moe.gate", "mlp.router"},
    PlainModule{"mlp.shared_expert_gate", "mlp.shared_expert_gate"},
    // T5, within "block.N.layer."
    PlainModule{"0.layer_norm", "attention_layernorm", Stack::kEncoder},
    PlainModule{"1.layer_norm", "mlp_layernorm", Stack::kEncoder},
    PlainModule{"0.layer_norm", "self_attention_layernorm", Stack::kDecoder},
    PlainModule{"1.layer_norm", "cross_attention_layernorm", Stack::kDecoder},
    PlainModule{"2.layer_norm", "mlp_layernorm", Stack::kDecoder},
    // Whisper
    PlainModule{"self_attn_layer_norm", "attention_layernorm", Stack::kEncoder},
    PlainModule{"self_attn_layer_norm", "self_attention_layernorm", Stack::kDecoder},
    PlainModule{"encoder_attn_layer_norm", "cross_attention_layernorm", Stack::kDecoder},
    PlainModule{"final_layer_norm", "mlp_layernorm"},
};

bool is_relative_table(const std::string& tensor) {
  return tensor.ends_with("relative_attention_bias.weight");
}

class Planner {
 public:
  Planner(const UnifiedForm& form, const Parallelism& parallel)
      : form_(form),
        parallel_(parallel),
        dtype_(trtllm_dtype(form)),
        adds_one_(form.family.trtllm_decoder.starts_with("gemma")),
        parts_(trtllm_parts(form.model)),
        builder_(form.tensors, parts_.size() * static_cast<size_t>(parallel.ranks())) {}

  ReshardPlan plan() {
    std::vector<std::string> names;
    for (part_ = 0; part_ < parts_.size(); ++part_) {
      add_part();
      const std::string& folder = parts_[part_].folder;
      for (int64_t rank = 0; rank < parallel_.ranks(); ++rank) {
        names.push_back(concat(folder, folder.empty() ? "" : "/", "rank", rank, ".safetensors"));
      }
    }
    ReshardPlan plan = builder_.finish(names);
    plan.group_files = static_cast<size_t>(parallel_.tp);
    return plan;
  }

 private:
  const TrtPart& part() const { return parts_[part_]; }
  size_t file_of(int64_t stage, int64_t t) const {
    return part_ * static_cast<size_t>(parallel_.ranks()) + parallel_.file(stage, t);
  }

  void add_part() {
    add_embedding();
    const std::vector<size_t>& layers = part().layers;
    const size_t per_stage = layers.size() / static_cast<size_t>(parallel_.pp);
    for (size_t layer = 0; layer < layers.size(); ++layer) {
      add_layer(layers[layer], layer, static_cast<int64_t>(layer / per_stage), layer % per_stage);
    }
    add_closing();
  }

  void add_embedding() {
    const StageSpec& stage = form_.model.stages()[part().embedding];
    for (const TensorNeed& need : stage.tensors) {
      // The encoder's last norm, in the stage that begins the decoder.
      if (need.shape.size() == 1 && !is_convolution(need.name)) continue;
      // T5's stacks share one.
      const bool returns = embedded_.insert(need.name).second;
      for (int64_t t = 0; t < parallel_.tp; ++t) {
        add_embedding_tensor(need.name, file_of(0, t), t, returns);
      }
    }
  }

  static bool is_convolution(const std::string& tensor) {
    return tensor.find(".conv1.") != std::string::npos ||
           tensor.find(".conv2.") != std::string::npos;
  }

  void add_embedding_tensor(const std::string& from, size_t file, int64_t t, bool returns) {
    if (is_convolution(from)) {
      add_replicated(from, file, "transformer." + from.substr(from.find("conv")),
                     returns && t == 0);
    } else if (from.ends_with("embed_positions.weight")) {
      const int64_t rows = (builder_.source(from).shape[0] + parallel_.tp - 1) / parallel_.tp;
      add_padded_rows(from, file, t, rows, "transformer.position_embedding.weight", returns);
    } else {
      add_padded_rows(from, file, t, vocabulary_rows(form_, parallel_.tp).per_rank,
                      "transformer.vocab_embedding.weight", returns);
    }
  }

  // A matrix of which every rank has `rows`, the last ones zeros.
  void add_padded_rows(const std::string& from, size_t file, int64_t t, int64_t rows,
                       const std::string& to, bool returns) {
    const TensorSpec& source = builder_.source(from);
    const int64_t columns = source.shape[1];
    const int64_t begin = std::min(t * rows, source.shape[0]);
    const int64_t count = std::min(rows, source.shape[0] - begin);
    builder_.declare(file, {to, dtype_, {rows, columns}});
    if (count == 0) return;
    builder_.move(
        {from, file, to, {begin * columns, 0, 0, count * columns, 1}, false, true, returns});
  }

  void add_layer(size_t index, size_t layer, int64_t pipeline_stage, size_t slot) {
    const StageSpec& stage = form_.model.stages()[index];
    const StagePlan& plan = form_.stages[index];
    const std::string prefix = concat("transformer.layers.", slot, ".");
    for (int64_t t = 0; t < parallel_.tp; ++t) {
      const size_t file = file_of(pipeline_stage, t);
      for (const TrtModule& module : trtllm_modules(stage)) {
        ModulePlace place;
        place.file = file;
        place.name = prefix + module.name;
        place.t = t;
        place.tp = parallel_.tp;
        place.dtype = dtype_;
        add_module(stage, plan, module, place, form_.dtype, builder_);
      }
      add_plain(stage, layer, file, t, prefix);
      for (size_t i = 0; i < stage.attentions.size(); ++i) {
        add_cache(stage.attentions[i], plan.kv[i], file, prefix + attention_name(i));
      }
    }
  }

  std::string attention_name(size_t index) const {
    if (part().folder.empty() || !part().decoder) return "attention.";
    return index == 0 ? "self_attention." : "cross_attention.";
  }

  // Everything of a layer that is not a linear's: replicated.
  void add_plain(const StageSpec& stage, size_t layer, size_t file, int64_t t,
                 const std::string& prefix) {
    std::set<std::string> of_linears;
    for (const LinearSite& linear : stage.linears) {
      of_linears.insert(linear.weight);
      of_linears.insert(linear.bias);
    }
    for (const TensorNeed& need : stage.tensors) {
      if (of_linears.count(need.name) > 0) continue;
      if (is_relative_table(need.name)) {
        add_relative_table(need.name, file, t, prefix + attention_name(0) + "rel_attn_table",
                           layer == 0);
        // Once more, where older releases look for it.
        if (prefix == "transformer.layers.0.") {
          add_relative_table(need.name, file, t, "rel_attn_table", false);
        }
        continue;
      }
      const std::string suffix = need.name.substr(need.name.rfind('.'));
      add_replicated(need.name, file, prefix + plain_target(need.name, layer) + suffix, t == 0);
    }
  }

  std::string plain_target(const std::string& tensor, size_t layer) const {
    const Stack stack = part().decoder ? Stack::kDecoder : Stack::kEncoder;
    for (const std::string& layer_prefix :
         {concat("layers.", layer, "."), concat("block.", layer, ".layer.")}) {
      const size_t begin = tensor.find(layer_prefix);
      if (begin == std::string::npos) continue;
      const size_t module_begin = begin + layer_prefix.size();
      const std::string module = tensor.substr(module_begin, tensor.rfind('.') - module_begin);
      for (const PlainModule& plain : kPlainModules) {
        if (plain.stack != Stack::kAny && plain.stack != stack) continue;
        if (module == plain.source) return plain.target;
      }
    }
    refuse(tensor);
  }

  // [buckets, heads] of the source as [heads of this rank, buckets].
  void add_relative_table(const std::string& from, size_t file, int64_t t, const std::string& to,
                          bool returns) {
    const TensorSpec& source = builder_.source(from);
    const int64_t buckets = source.shape[0];
    const int64_t heads = source.shape[1];
    const int64_t here = heads / parallel_.tp;
    builder_.declare(file, {to, dtype_, {here, buckets}});
    for (int64_t h = 0; h < here; ++h) {
      const ElementRun run{t * here + h, heads, h * buckets, 1, buckets};
      builder_.move({from, file, to, run, false, true, returns});
    }
  }

  [[noreturn]] static void refuse(const std::string& tensor) {
    throw UsageError(concat("--target trtllm: TensorRT-LLM's checkpoints have no place for '",
                            tensor, "': use --target hf"));
  }

  void add_replicated(const std::string& from, size_t file, const std::string& to, bool returns) {
    const TensorSpec& source = builder_.source(from);
    const bool router = to.ends_with("mlp.router.weight");
    std::vector<int64_t> shape = source.shape;
    if (shape.size() == 3) shape.push_back(1);  // a convolution of one dimension
    builder_.declare(file, {to, router ? DType::kF32 : dtype_, shape});
    const bool norm =
        to.find("layernorm") != std::string::npos || to.find("ln_f") != std::string::npos;
    builder_.copy(from, file, to, 0, /*writes=*/true, returns, norm && adds_one_);
  }

  // Unified checkpoints hold amax / 448 of every format; here it is at least 1 for FP8, and
  // amax / (6 * 448) for NVFP4 (trtllm-export.md, 4.9). Formats without scales stand for an amax
  // of 448.
  void add_cache(const AttentionSite& attention, KvFormat format, size_t file,
                 const std::string& prefix) {
    if (format == KvFormat::kNone) return;
    const bool nvfp4 = std::string(kv_algo_of(format)) == "NVFP4";
    const double divisor = nvfp4 ? 6.0 : 1.0;
    const float least = nvfp4 ? 0.0f : 1.0f;
    const std::string key = key_scale_name(attention.name);
    const std::string value = value_scale_name(attention.name);
    for (const auto& [which, from] :
         {std::pair("k", std::vector{key}), std::pair("v", std::vector{value}),
          std::pair("kv", std::vector{key, value})}) {
      const std::string to = concat(prefix, which, "_cache_scaling_factor");
      builder_.declare(file, {to, DType::kF32, {1}});
      if (has_scales(format)) {
        builder_.maximum({file, to, from, divisor, least});
      } else {
        builder_.fill(file, to, 0, 1, static_cast<float>(1.0 / divisor));
      }
    }
  }

  // The last norm, and the head of a decoder.
  void add_closing() {
    const StageSpec& stage = form_.model.stages()[part().closing];
    const LinearSite& head = form_.model.stages().back().linears.front();
    const bool tied = head.weight != head.name + ".weight";
    for (int64_t t = 0; t < parallel_.tp; ++t) {
      const size_t file = file_of(parallel_.pp - 1, t);
      for (const TensorNeed& need : stage.tensors) {
        if (need.shape.size() != 1 || need.name == head.bias) continue;
        add_replicated(need.name, file, "transformer.ln_f" + need.name.substr(need.name.rfind('.')),
                       t == 0);
      }
      if (!part().decoder || shares_head(form_, parallel_)) continue;
      ModulePlace place;
      place.file = file;
      place.name = "lm_head";
      place.t = t;
      place.tp = parallel_.tp;
      place.dtype = dtype_;
      place.padded_rows = vocabulary_rows(form_, parallel_.tp).per_rank;
      place.returns = !tied;
      add_module(stage, form_.stages.back(), {"lm_head", {0}}, place, form_.dtype, builder_);
    }
  }

  const UnifiedForm& form_;
  Parallelism parallel_;
  DType dtype_;
  bool adds_one_;  // norms are stored without the 1 that is added to them
  std::vector<TrtPart> parts_;
  size_t part_ = 0;                 // under way
  std::set<std::string> embedded_;  // embeddings that some part holds already
  ReshardBuilder builder_;
};

}  // namespace

DType trtllm_dtype(const UnifiedForm& form) {
  return form.dtype == DType::kF32 ? DType::kF16 : form.dtype;
}

ReshardPlan plan_trtllm(const UnifiedForm& form, const Parallelism& parallel) {
  return Planner(form, parallel).plan();
}

}  // namespace halftone
