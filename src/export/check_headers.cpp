#include "export/check_headers.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/log.h"
#include "export/hf_layout.h"
#include "export/linear_headers.h"

namespace halftone {
namespace {

class HeaderChecker {
 public:
  HeaderChecker(const Checkpoint& checkpoint, const Model& model, const SourceLayout* source)
      : checkpoint_(checkpoint),
        model_(model),
        source_(source),
        dtype_(model_dtype(checkpoint)),
        stored_(read_quantization(checkpoint)),
        notes_{checkpoint, result_},
        linears_(notes_, stored_, dtype_) {
    result_.library = stored_.library != nullptr;
    find_caches();
  }

  HeaderCheck run() {
    for (size_t s = 0; s < model_.stages().size(); ++s) check_stage(s);
    check_tied();
    check_listed();
    if (source_ != nullptr) check_carried_over();
    check_others();
    return std::move(result_);
  }

 private:
  bool has(const std::string& name) const { return checkpoint_.has(name); }

  // Stages

  void check_stage(size_t index) {
    const StageSpec& stage = model_.stages()[index];
    StagePlan plan{linears_.check(stage), {}};
    std::set<std::string> packed;
    for (size_t i = 0; i < stage.linears.size(); ++i) {
      if (plan.linears[i].quantized()) packed.insert(stage.linears[i].weight);
    }
    for (size_t t = 0; t < stage.tensors.size(); ++t) {
      if (packed.count(stage.tensors[t].name) == 0) check_copy(index, t);
    }
    if (linears_.is_uniform()) {
      for (const std::string& module : stage.plain_modules) {
        linears_.require_excluded(module, stage.kind == StageKind::kEmbedding);
      }
    }
    for (const AttentionSite& attention : stage.attentions) {
      plan.kv.push_back(check_cache(attention));
    }
    result_.stages.push_back(std::move(plan));
  }

  // Tensors that are as in the source

  // The dtype that a tensor must have; nullopt: any floating one.
  std::optional<DType> copied_dtype(size_t stage, size_t t) const {
    if (source_ != nullptr) return source_->stages()[stage][t].dtype;
    return model_.stages()[stage].tensors[t].keeps_dtype ? std::optional(DType::kF32)
                                                         : std::nullopt;
  }

  void check_copy(size_t stage, size_t t) {
    const TensorNeed& need = model_.stages()[stage].tensors[t];
    if (result_.unsound.count(need.name.substr(0, need.name.rfind('.'))) > 0 &&
        need.name.ends_with(".weight")) {
      return;  // a weight that was to be quantized
    }
    const std::optional<DType> dtype = copied_dtype(stage, t);
    const TensorSpec spec = hf_part(need, dtype.value_or(dtype_)).whole;
    const bool first = notes_.consumed.insert(spec.name).second;
    if (first && !check_plain(spec, dtype.has_value())) notes_.bad.insert(spec.name);
    if (notes_.bad.count(spec.name) > 0) result_.unsound.insert(need.name);
  }

  bool check_plain(const TensorSpec& spec, bool exact) {
    if (!has(spec.name)) {
      notes_.add("missing-tensor", spec.name, described(spec.dtype, spec.shape), "missing");
      return false;
    }
    const TensorInfo& info = checkpoint_.info(spec.name);
    const bool right_dtype = exact ? info.dtype == spec.dtype : is_full_precision(info.dtype);
    if (!right_dtype) {
      notes_.add("wrong-dtype", spec.name, exact ? name_of(spec.dtype) : "BF16, F16 or F32",
                 name_of(info.dtype));
    } else if (info.shape != spec.shape) {
      notes_.add("wrong-shape", spec.name, shape_text(spec.shape), shape_text(info.shape));
    }
    return right_dtype && info.shape == spec.shape;
  }

  // Caches

  // One attention's scales or biases speak for all.
  void find_caches() {
    for (const StageSpec& stage : model_.stages()) {
      for (const AttentionSite& attention : stage.attentions) {
        cache_scales_ = cache_scales_ || has(key_scale_name(attention.name, result_.library)) ||
                        has(value_scale_name(attention.name, result_.library));
        cache_biases_ = cache_biases_ || has(key_bias_name(attention.name)) ||
                        has(value_bias_name(attention.name));
      }
    }
    if (stored_.kv_scheme == "NVFP4_AFFINE") cache_scales_ = cache_biases_ = true;
  }

  KvFormat check_cache(const AttentionSite& attention) {
    const auto format = kv_format_of_scheme(stored_.kv_scheme, cache_scales_, cache_biases_);
    if (!format) {
      if (!std::exchange(unknown_scheme_, true)) {
        notes_.add("unknown-format", attention.name, "kv_cache_scheme FP8, NVFP4 or NVFP4_AFFINE",
                   stored_.kv_scheme.dump());
      }
      return KvFormat::kNone;
    }
    for (const TensorSpec& spec : cache_tensors(attention, *format, dtype_, result_.library)) {
      notes_.consumed.insert(spec.name);
      if (!has(spec.name)) {
        notes_.add("missing-kv-scale", spec.name, described(spec.dtype, spec.shape), "missing");
      } else if (check_plain(spec, true)) {
        continue;
      }
      result_.unsound.insert(spec.name);
    }
    return *format;
  }

  // Everything else

  void check_tied() {
    for (const auto& [alias, canonical] : model_.tied_tensors()) {
      if (source_ != nullptr && source_->checkpoint().has(alias) && !has(alias) &&
          !same_bytes(source_->checkpoint(), alias, canonical)) {
        notes_.add("dropped-tensor", alias,
                   "as in the source, where it differs from what it is tied to", "missing");
      }
      if (!has(alias) || !has(canonical) || notes_.consumed.count(alias) > 0) continue;
      notes_.consumed.insert(alias);
      if (same_bytes(checkpoint_, alias, canonical)) {
        notes_.add("tied-duplicate", alias, concat("left out: it is tied to '", canonical, "'"),
                   "a second copy of its bytes");
      } else {
        notes_.warn("tied-differs", alias,
                    concat("the bytes of '", canonical, "', which it is tied to"),
                    "others: which of them an engine takes is open");
      }
    }
  }

  // quantized_layers names what the model has.
  void check_listed() {
    std::set<std::string> known;
    for (const StageSpec& stage : model_.stages()) {
      for (const LinearSite& linear : stage.linears) {
        known.insert(linear.name);
        if (!linear.stacked.empty()) known.insert(container_of(linear));
      }
    }
    for (const auto& [name, entry] : stored_.layers) {
      if (known.count(name) > 0) continue;
      notes_.warn("unknown-module", name, "a linear of the model", "an entry of quantized_layers");
    }
  }

  // Tensors of the source that belong to no stage.
  void check_carried_over() {
    std::set<std::string> aliases;
    for (const auto& [alias, canonical] : model_.tied_tensors()) aliases.insert(alias);
    for (const StoredTensor& stored : source_->extra()) {
      if (aliases.count(stored.name) > 0 && !has(stored.name)) continue;
      if (!notes_.consumed.insert(stored.name).second) continue;
      if (!has(stored.name)) {
        notes_.add("dropped-tensor", stored.name, "as in the source", "missing");
      } else if (check_plain({stored.name, stored.dtype, stored.shape}, true)) {
        result_.extra.push_back(stored.name);
      }
      check_extra_module(stored.name);
    }
  }

  bool has_prefix(const std::string& name, const std::vector<std::string>& prefixes) const {
    return std::any_of(prefixes.begin(), prefixes.end(),
                       [&](const std::string& prefix) { return name.starts_with(prefix); });
  }

  // Engines look for the linears of layers that the model does not compute.
  void check_extra_module(const std::string& name) {
    const std::string suffix = ".weight";
    if (!linears_.is_uniform() || !has(name) || !name.ends_with(suffix)) return;
    if (checkpoint_.info(name).shape.size() < 2) return;
    // Who reads NF4 does not look for next-token layers.
    if (has_prefix(name, model_.carried_prefixes()) ||
        (!linears_.is_nf4() && has_prefix(name, model_.next_token_prefixes()))) {
      linears_.require_excluded(name.substr(0, name.size() - suffix.size()), false);
    }
  }

  void check_others() {
    for (const std::string& name : checkpoint_.names()) {
      if (notes_.consumed.count(name) > 0) continue;
      if (source_ != nullptr || is_quantization_tensor(name)) {
        notes_.add("unexpected-tensor", name,
                   source_ != nullptr
                       ? "no such tensor: the source has none, and no format asks for it"
                       : "no such tensor: its module's format has none",
                   described(checkpoint_.info(name).dtype, checkpoint_.info(name).shape));
        continue;
      }
      result_.extra.push_back(name);
      check_extra_module(name);
      if (has_prefix(name, model_.carried_prefixes()) ||
          has_prefix(name, model_.next_token_prefixes())) {
        continue;
      }
      notes_.warn("unknown-tensor", name, "a tensor of the model", "one that it does not read");
    }
  }

  const Checkpoint& checkpoint_;
  const Model& model_;
  const SourceLayout* source_;
  DType dtype_;
  StoredQuantization stored_;
  bool cache_scales_ = false;
  bool cache_biases_ = false;
  bool unknown_scheme_ = false;
  HeaderCheck result_;
  HeaderNotes notes_;
  LinearHeaders linears_;
};

}  // namespace

HeaderCheck check_headers(const Checkpoint& checkpoint, const Model& model,
                          const SourceLayout* source) {
  return HeaderChecker(checkpoint, model, source).run();
}

}  // namespace halftone
