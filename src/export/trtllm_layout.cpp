#include "export/trtllm_layout.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/log.h"
#include "export/hf_layout.h"
#include "export/trtllm_module.h"

namespace halftone {
namespace {

struct PlainModule {
  const char* source;  // within a layer of the unified checkpoint
  const char* target;
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
};

class Planner {
 public:
  Planner(const UnifiedForm& form, const Parallelism& parallel)
      : form_(form),
        parallel_(parallel),
        dtype_(trtllm_dtype(form)),
        adds_one_(form.family.trtllm_decoder.starts_with("gemma")),
        builder_(form.tensors, static_cast<size_t>(parallel.ranks())) {}

  ReshardPlan plan() {
    add_embedding();
    const std::vector<size_t> layers = layer_stages(form_.model);
    const size_t per_stage = layers.size() / static_cast<size_t>(parallel_.pp);
    for (size_t layer = 0; layer < layers.size(); ++layer) {
      add_layer(layers[layer], layer, static_cast<int64_t>(layer / per_stage), layer % per_stage);
    }
    add_head();
    std::vector<std::string> names;
    for (int64_t rank = 0; rank < parallel_.ranks(); ++rank) {
      names.push_back(concat("rank", rank, ".safetensors"));
    }
    return builder_.finish(names);
  }

 private:
  void add_embedding() {
    const StageSpec& stage = form_.model.stages().front();
    const std::string& from = stage.tensors.front().name;
    for (int64_t t = 0; t < parallel_.tp; ++t) {
      add_padded_rows(from, parallel_.file(0, t), t, "transformer.vocab_embedding.weight",
                      /*returns=*/true);
    }
  }

  // A matrix with a row for each token.
  void add_padded_rows(const std::string& from, size_t file, int64_t t, const std::string& to,
                       bool returns) {
    const TensorSpec& source = builder_.source(from);
    const int64_t columns = source.shape[1];
    const int64_t rows = vocabulary_rows(form_, parallel_.tp).per_rank;
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
      const size_t file = parallel_.file(pipeline_stage, t);
      for (const TrtModule& module : trtllm_modules(stage)) {
        ModulePlace place;
        place.file = file;
        place.name = prefix + module.name;
        place.t = t;
        place.tp = parallel_.tp;
        place.dtype = dtype_;
        add_module(stage, plan, module, place, form_.dtype, builder_);
      }
      add_plain(stage, layer, file, prefix, t == 0);
      for (size_t i = 0; i < stage.attentions.size(); ++i) {
        add_cache(stage.attentions[i], plan.kv[i], file, prefix + "attention.", t == 0);
      }
    }
  }

  // Everything of a layer that is not a linear's: replicated.
  void add_plain(const StageSpec& stage, size_t layer, size_t file, const std::string& prefix,
                 bool returns) {
    std::set<std::string> of_linears;
    for (const LinearSite& linear : stage.linears) {
      of_linears.insert(linear.weight);
      of_linears.insert(linear.bias);
    }
    const std::string layer_prefix = concat("layers.", layer, ".");
    for (const TensorNeed& need : stage.tensors) {
      if (of_linears.count(need.name) > 0) continue;
      const size_t begin = need.name.find(layer_prefix);
      const size_t dot = need.name.rfind('.');
      if (begin == std::string::npos) refuse(need.name);
      const size_t module_begin = begin + layer_prefix.size();
      const std::string module = need.name.substr(module_begin, dot - module_begin);
      const auto found =
          std::find_if(kPlainModules.begin(), kPlainModules.end(),
                       [&](const PlainModule& plain) { return module == plain.source; });
      if (found == kPlainModules.end()) refuse(need.name);
      add_replicated(need.name, file, prefix + found->target + need.name.substr(dot), returns);
    }
  }

  [[noreturn]] static void refuse(const std::string& tensor) {
    throw UsageError(concat("--target trtllm: TensorRT-LLM's checkpoints have no place for '",
                            tensor, "': use --target hf"));
  }

  void add_replicated(const std::string& from, size_t file, const std::string& to, bool returns) {
    const TensorSpec& source = builder_.source(from);
    const bool router = to.ends_with("mlp.router.weight");
    builder_.declare(file, {to, router ? DType::kF32 : dtype_, source.shape});
    const bool norm =
        to.find("layernorm") != std::string::npos || to.find("ln_f") != std::string::npos;
    builder_.copy(from, file, to, 0, /*writes=*/true, returns, norm && adds_one_);
  }

  void add_cache(const AttentionSite& attention, KvFormat format, size_t file,
                 const std::string& prefix, bool returns) {
    if (format == KvFormat::kNone) return;
    const std::string both = prefix + "kv_cache_scaling_factor";
    const std::array<std::pair<std::string, std::string>, 2> scales{
        std::pair(key_scale_name(attention.name), prefix + "k_cache_scaling_factor"),
        std::pair(value_scale_name(attention.name), prefix + "v_cache_scaling_factor")};
    builder_.declare(file, {both, DType::kF32, {1}});
    for (const auto& [from, to] : scales) {
      builder_.declare(file, {to, DType::kF32, {1}});
      if (has_scales(format)) {
        builder_.copy(from, file, to, 0, /*writes=*/true, returns);
      } else {
        builder_.fill(file, to, 0, 1, 1.0f);
      }
    }
    if (has_scales(format)) {
      builder_.maximum({file, both, {scales[0].first, scales[1].first}});
    } else {
      builder_.fill(file, both, 0, 1, 1.0f);
    }
  }

  void add_head() {
    const StageSpec& stage = form_.model.stages().back();
    const LinearSite& head = stage.linears.front();
    const bool tied = head.weight != head.name + ".weight";
    for (int64_t t = 0; t < parallel_.tp; ++t) {
      const size_t file = parallel_.file(parallel_.pp - 1, t);
      for (const TensorNeed& need : stage.tensors) {
        if (need.name == head.weight || need.name == head.bias) continue;
        add_replicated(need.name, file, "transformer.ln_f" + need.name.substr(need.name.rfind('.')),
                       t == 0);
      }
      if (shares_head(form_, parallel_)) continue;
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
