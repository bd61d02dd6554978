#include "export/check_headers.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "core/error.h"
#include "core/log.h"
#include "export/hf_layout.h"
#include "export/hf_names.h"
#include "export/stored_names.h"
#include "export/stored_quantization.h"
#include "formats/codecs.h"
#include "formats/quant_algo.h"

namespace halftone {
namespace {

using Entry = StoredQuantization::Entry;

std::string described(DType dtype, const std::vector<int64_t>& shape) {
  return concat(name_of(dtype), " ", shape_text(shape));
}

// The name in the configuration of the experts that share one tensor.
std::string container_of(const LinearSite& linear) {
  return linear.stacked.substr(0, linear.stacked.rfind('.'));
}

class HeaderChecker {
 public:
  HeaderChecker(const Checkpoint& checkpoint, const Model& model, const SourceLayout* source)
      : checkpoint_(checkpoint),
        model_(model),
        source_(source),
        dtype_(model_dtype(checkpoint)),
        stored_(read_quantization(checkpoint)),
        is_nf4_(stored_.uniform.algo == "NF4"),
        is_uniform_(stored_.layers.empty() && !stored_.uniform.algo.empty()),
        excluded_(exclude_list()) {
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
  Json exclude_list() const {
    const Json& config = checkpoint_.config().at("quantization_config");
    const auto list = config.find(is_nf4_ ? "llm_int8_skip_modules" : "ignore");
    return list == config.end() ? Json::array() : *list;
  }

  bool has(const std::string& name) const { return checkpoint_.has(name); }
  std::string file_of(const std::string& name) const {
    return has(name) ? checkpoint_.file_of(name).filename().string() : "";
  }
  void add(const char* rule, const std::string& tensor, std::string expected, std::string found) {
    result_.findings.push_back(
        {rule, tensor, file_of(tensor), std::move(expected), std::move(found)});
  }
  void warn(const char* rule, const std::string& tensor, std::string expected, std::string found) {
    add(rule, tensor, std::move(expected), std::move(found));
    result_.findings.back().warning = true;
  }

  // Stages

  void check_stage(size_t index) {
    const StageSpec& stage = model_.stages()[index];
    StagePlan plan;
    std::set<std::string> packed;
    std::map<int, std::vector<std::string>> lacking;  // weights that are missing, by expert
    for (const LinearSite& linear : stage.linears) {
      plan.linears.push_back(check_linear(stage, linear, lacking));
      if (plan.linears.back().quantized()) packed.insert(linear.weight);
    }
    check_missing(stage, lacking);
    for (size_t t = 0; t < stage.tensors.size(); ++t) {
      if (packed.count(stage.tensors[t].name) == 0) check_copy(index, t);
    }
    if (is_uniform_) {
      for (const std::string& module : stage.plain_modules) {
        require_excluded(module, stage.kind == StageKind::kEmbedding);
      }
    }
    for (const AttentionSite& attention : stage.attentions) {
      plan.kv.push_back(check_cache(attention));
    }
    result_.stages.push_back(std::move(plan));
  }

  // What the configuration says of a linear; null: it stays as it is.
  const Entry* entry_of(const LinearSite& linear, bool stacked) const {
    if (is_uniform_ || is_nf4_) {
      const bool left_out =
          excluded_.covers(linear.name) || (stacked && excluded_.covers(container_of(linear)));
      return left_out ? nullptr : &stored_.uniform;
    }
    const auto found = stored_.layers.find(stacked ? container_of(linear) : linear.name);
    return found == stored_.layers.end() ? nullptr : &found->second;
  }

  bool is_coded(const LinearSite& linear, bool stacked) const {
    const std::string name = hf_name(linear, stacked, "weight");
    const bool scaled = has(hf_name(linear, stacked, "weight_scale")) ||
                        (is_nf4_ && has(linear.name + "." + kNf4State));
    return scaled || (has(name) && !is_full_precision(checkpoint_.info(name).dtype));
  }

  LinearFormat check_linear(const StageSpec& stage, const LinearSite& linear,
                            std::map<int, std::vector<std::string>>& lacking) {
    const bool stacked = !linear.stacked.empty() &&
                         (has(hf_name(linear, true, "weight_scale")) || is_coded(linear, true));
    const bool coded = is_coded(linear, stacked);
    const bool plain = !coded && (has(linear.weight) || has(linear.stacked));
    const Entry* entry = entry_of(linear, stacked);
    if (entry == nullptr && !coded) return {};
    if (entry == nullptr) {
      add(is_uniform_ || is_nf4_ ? "excluded-but-quantized" : "not-listed",
          hf_name(linear, stacked, "weight"), "as in the source, by the configuration",
          "quantized");
      if (stored_.uniform.algo.empty()) return set_aside(linear, stacked);
      entry = &stored_.uniform;
    } else if (plain) {
      require_module_listed(linear);
      return {};
    }
    return check_format(stage, linear, stacked, *entry, lacking);
  }

  void require_module_listed(const LinearSite& linear) {
    const std::string name = linear.stacked.empty() ? linear.name : container_of(linear);
    if (!unlisted_.insert(name).second) return;
    if (is_uniform_ || is_nf4_) {
      add("not-excluded", linear.name, "in the list of excluded modules: it is not quantized",
          "not in the list");
    } else {
      add("listed-but-unquantized", linear.name, "quantized, as quantized_layers says",
          "not quantized");
    }
  }

  void require_excluded(const std::string& module, bool embedding) {
    if (excluded_.covers(module)) return;
    // Engines never quantize embeddings.
    add("not-excluded", module, "in the list of excluded modules: it is not quantized",
        "not in the list");
    result_.findings.back().warning = embedding;
  }

  // Of a linear that cannot be read nothing else is said.
  LinearFormat set_aside(const LinearSite& linear, bool stacked) {
    const std::string prefix = stacked ? linear.stacked : linear.name + ".";
    const std::vector<std::string>& names = checkpoint_.names();
    for (auto name = std::lower_bound(names.begin(), names.end(), prefix);
         name != names.end() && name->starts_with(prefix); ++name) {
      consumed_.insert(*name);
    }
    result_.unsound.insert({linear.name, linear.weight});
    return {};
  }

  LinearFormat check_format(const StageSpec& stage, const LinearSite& linear, bool stacked,
                            const Entry& entry, std::map<int, std::vector<std::string>>& lacking) {
    const std::string weight = hf_name(linear, stacked, "weight");
    const std::optional<LinearFormat> format = format_of(linear, stacked, entry);
    if (!format) {
      if (unknown_.insert(entry.algo).second) {
        add("unknown-format", linear.name, "a quant_algo that halftone knows",
            "'" + entry.algo + "'");
      }
      return set_aside(linear, stacked);
    }
    if (!format->quantized()) {
      add("missing-scale", linear.name + "." + kNf4State, "the state of the quantized weight",
          "missing");
      return set_aside(linear, stacked);
    }
    const int64_t block = format->codec->block();
    if (entry.group_size != 0 && block != 0 && entry.group_size != block) {
      add_group_size(linear.name, entry.group_size, block);
    }
    try {
      format->codec->check_shape(linear.name, linear.out, linear.in);
    } catch (const InputError& error) {
      add("wrong-shape", weight, "a size that the format's blocks divide", error.what());
      return set_aside(linear, stacked);
    }
    check_parts(stage, linear, *format, lacking);
    return *format;
  }

  std::optional<LinearFormat> format_of(const LinearSite& linear, bool stacked,
                                        const Entry& entry) const {
    if (is_nf4_) {
      LinearFormat format;
      const std::string state = linear.name + "." + kNf4State;
      if (has(state)) format.codec = make_nf4_codec(checkpoint_.info(state).count());
      return format;
    }
    const bool branch = has(linear.name + "." + kLowRankA) || has(linear.name + "." + kLowRankB);
    auto format = format_of_algo(entry.algo, entry.group_size, entry.weight_only,
                                 [&](const std::string& suffix) {
                                   // What such a format cannot do without.
                                   if (suffix == "input_scale" && entry.algo == "FP8") return true;
                                   if (suffix == "pre_quant_scale" && branch) return true;
                                   return has(hf_name(linear, stacked, suffix));
                                 });
    if (!format) return format;
    if (branch) format->low_rank = rank_of_branch(linear);
    if (entry.algo.find("AWQ") != std::string::npos) format->smoothing = Smoothing::kAwq;
    if (entry.algo == "NVFP4_SVD") format->smoothing = Smoothing::kSvdQuant;
    return format;
  }

  int64_t rank_of_branch(const LinearSite& linear) const {
    const auto size = [&](const char* factor, size_t dimension) -> int64_t {
      const std::string name = linear.name + "." + factor;
      if (!has(name) || checkpoint_.info(name).shape.size() != 2) return 0;
      return checkpoint_.info(name).shape[dimension];
    };
    return std::max<int64_t>(1, std::max(size(kLowRankA, 0), size(kLowRankB, 1)));
  }

  void check_parts(const StageSpec& stage, const LinearSite& linear, const LinearFormat& format,
                   std::map<int, std::vector<std::string>>& lacking) {
    const std::vector<HfPart> parts = hf_parts(linear, format, stage.experts, dtype_);
    const bool none = std::none_of(parts.begin(), parts.end(),
                                   [&](const HfPart& part) { return has(part.whole.name); });
    if (none) {
      lacking[linear.expert].push_back(parts.front().whole.name);
      result_.unsound.insert(linear.name);
      return;
    }
    for (const HfPart& part : parts) {
      const bool first = consumed_.insert(part.whole.name).second;
      const bool sound = first ? check_part(part) : bad_parts_.count(part.whole.name) == 0;
      if (sound) continue;
      bad_parts_.insert(part.whole.name);
      result_.unsound.insert(linear.name);
    }
  }

  bool check_part(const HfPart& part) {
    const TensorSpec& spec = part.whole;
    const bool scale = part.suffix.find("scale") != std::string::npos ||
                       part.suffix.find("absmax") != std::string::npos;
    if (!has(spec.name)) {
      const char* rule = part.suffix == "input_scale" ? "missing-input-scale"
                         : scale                      ? "missing-scale"
                                                      : "missing-tensor";
      add(rule, spec.name, described(spec.dtype, spec.shape), "missing");
      return false;
    }
    const TensorInfo& info = checkpoint_.info(spec.name);
    if (info.dtype == spec.dtype && info.shape == spec.shape) return true;
    if (info.dtype != spec.dtype) {
      add("wrong-dtype", spec.name, described(spec.dtype, spec.shape),
          described(info.dtype, info.shape));
    } else if (const auto sizes = block_sizes(part, info); sizes) {
      add_group_size(spec.name, sizes->first, sizes->second);
    } else {
      add(scale ? "wrong-scale-shape" : "wrong-shape", spec.name, described(spec.dtype, spec.shape),
          described(info.dtype, info.shape));
    }
    return false;
  }

  // The block that the configuration gives and the one that the stored block scales have, where
  // that is what differs.
  static std::optional<std::pair<int64_t, int64_t>> block_sizes(const HfPart& part,
                                                                const TensorInfo& info) {
    const std::vector<int64_t>& expected = part.whole.shape;
    const std::vector<int64_t>& found = info.shape;
    if (part.suffix != "weight_scale" || found.size() != expected.size()) return std::nullopt;
    if (expected.size() != 2 || found[0] != expected[0]) return std::nullopt;
    for (const int64_t in_config : {16, 32, 64, 128}) {
      for (const int64_t stored : {8, 16, 32, 64, 128, 256}) {
        const bool fits = stored != in_config && found[1] * stored == expected[1] * in_config;
        if (fits && found[1] > 1) return std::pair(in_config, stored);
      }
    }
    return std::nullopt;
  }

  void add_group_size(const std::string& tensor, int64_t in_config, int64_t stored) {
    add("group-size", tensor, concat("blocks of ", in_config, ", as the configuration says"),
        concat("blocks of ", stored));
  }

  void check_missing(const StageSpec& stage,
                     const std::map<int, std::vector<std::string>>& lacking) {
    for (const auto& [expert, weights] : lacking) {
      const auto linears = std::count_if(
          stage.linears.begin(), stage.linears.end(),
          [expert = expert](const LinearSite& linear) { return linear.expert == expert; });
      if (expert >= 0 && static_cast<size_t>(linears) == weights.size()) {
        const std::string first = weights.front().substr(0, weights.front().rfind('.'));
        add("missing-expert", first.substr(0, first.rfind('.')),
            concat(linears, " quantized linears"), "none of them");
        continue;
      }
      for (const std::string& weight : weights) {
        add("missing-tensor", weight, "the quantized weight and its scales", "missing");
      }
    }
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
    const bool first = consumed_.insert(spec.name).second;
    if (first && !check_plain(spec, dtype.has_value())) bad_parts_.insert(spec.name);
    if (bad_parts_.count(spec.name) > 0) result_.unsound.insert(need.name);
  }

  bool check_plain(const TensorSpec& spec, bool exact) {
    if (!has(spec.name)) {
      add("missing-tensor", spec.name, described(spec.dtype, spec.shape), "missing");
      return false;
    }
    const TensorInfo& info = checkpoint_.info(spec.name);
    const bool right_dtype = exact ? info.dtype == spec.dtype : is_full_precision(info.dtype);
    if (!right_dtype) {
      add("wrong-dtype", spec.name, exact ? name_of(spec.dtype) : "BF16, F16 or F32",
          name_of(info.dtype));
    } else if (info.shape != spec.shape) {
      add("wrong-shape", spec.name, shape_text(spec.shape), shape_text(info.shape));
    }
    return right_dtype && info.shape == spec.shape;
  }

  // Caches

  // One attention's scales or biases speak for all.
  void find_caches() {
    for (const StageSpec& stage : model_.stages()) {
      for (const AttentionSite& attention : stage.attentions) {
        cache_scales_ = cache_scales_ || has(key_scale_name(attention.name)) ||
                        has(value_scale_name(attention.name));
        cache_biases_ = cache_biases_ || has(key_bias_name(attention.name)) ||
                        has(value_bias_name(attention.name));
      }
    }
    if (stored_.kv_scheme == "NVFP4_AFFINE") cache_scales_ = cache_biases_ = true;
  }

  KvFormat check_cache(const AttentionSite& attention) {
    const auto format = kv_format_of_scheme(stored_.kv_scheme, cache_scales_, cache_biases_);
    if (!format) {
      if (unknown_.insert("kv_cache_scheme").second) {
        add("unknown-format", attention.name, "kv_cache_scheme FP8, NVFP4 or NVFP4_AFFINE",
            stored_.kv_scheme.dump());
      }
      return KvFormat::kNone;
    }
    for (const TensorSpec& spec : cache_tensors(attention, *format, dtype_)) {
      consumed_.insert(spec.name);
      if (!has(spec.name)) {
        add("missing-kv-scale", spec.name, described(spec.dtype, spec.shape), "missing");
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
        add("dropped-tensor", alias, "as in the source, where it differs from what it is tied to",
            "missing");
      }
      if (!has(alias) || !has(canonical) || consumed_.count(alias) > 0) continue;
      consumed_.insert(alias);
      if (same_bytes(checkpoint_, alias, canonical)) {
        add("tied-duplicate", alias, concat("left out: it is tied to '", canonical, "'"),
            "a second copy of its bytes");
      } else {
        warn("tied-differs", alias, concat("the bytes of '", canonical, "', which it is tied to"),
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
      warn("unknown-module", name, "a linear of the model", "an entry of quantized_layers");
    }
  }

  // Tensors of the source that belong to no stage.
  void check_carried_over() {
    std::set<std::string> aliases;
    for (const auto& [alias, canonical] : model_.tied_tensors()) aliases.insert(alias);
    for (const StoredTensor& stored : source_->extra()) {
      if (aliases.count(stored.name) > 0 && !has(stored.name)) continue;
      if (!consumed_.insert(stored.name).second) continue;
      if (!has(stored.name)) {
        add("dropped-tensor", stored.name, "as in the source", "missing");
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
    if (!is_uniform_ || !has(name) || !name.ends_with(suffix)) return;
    if (checkpoint_.info(name).shape.size() < 2) return;
    // Who reads NF4 does not look for next-token layers.
    if (has_prefix(name, model_.carried_prefixes()) ||
        (!is_nf4_ && has_prefix(name, model_.next_token_prefixes()))) {
      require_excluded(name.substr(0, name.size() - suffix.size()), false);
    }
  }

  void check_others() {
    for (const std::string& name : checkpoint_.names()) {
      if (consumed_.count(name) > 0) continue;
      if (source_ != nullptr || is_quantization_tensor(name)) {
        add("unexpected-tensor", name,
            source_ != nullptr ? "no such tensor: the source has none, and no format asks for it"
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
      warn("unknown-tensor", name, "a tensor of the model", "one that it does not read");
    }
  }

  const Checkpoint& checkpoint_;
  const Model& model_;
  const SourceLayout* source_;
  DType dtype_;
  StoredQuantization stored_;
  bool is_nf4_;
  bool is_uniform_;
  ExcludeList excluded_;
  bool cache_scales_ = false;
  bool cache_biases_ = false;
  std::set<std::string> consumed_;   // names on disk that something asked for
  std::set<std::string> bad_parts_;  // of those, what has a finding
  std::set<std::string> unlisted_;
  std::set<std::string> unknown_;
  HeaderCheck result_;
};

}  // namespace

HeaderCheck check_headers(const Checkpoint& checkpoint, const Model& model,
                          const SourceLayout* source) {
  return HeaderChecker(checkpoint, model, source).run();
}

}  // namespace halftone
