#include "export/trtllm_form.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

// The codec's kind without its parameters.
bool is_kind(const LinearFormat& format, const std::string& kind) {
  const std::string name = format.codec->name();
  return name == kind || name.starts_with(kind + " ");
}

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// How many input channels a part of a row-parallel linear must be a multiple of.
int64_t column_multiple(const LinearFormat& format) {
  return format.quantized() ? std::max<int64_t>(format.codec->block(), 1) : 1;
}

int64_t row_multiple(const LinearFormat& format) {
  return format.quantized() && is_int4(format) ? 2 : 1;
}

using Problem = std::optional<std::string>;

Problem rows_problem(const LinearSite& linear, int64_t rows, const LinearFormat& format,
                     int64_t tp) {
  if (rows % tp != 0) {
    return concat("--tp ", tp, " does not divide the ", rows, " rows of '", linear.name, "'");
  }
  if (rows / tp % row_multiple(format) != 0) {
    return concat("--tp ", tp, " leaves ", rows / tp, " rows of '", linear.name,
                  "' to a rank, but INT4 keeps two in a byte");
  }
  return std::nullopt;
}

Problem columns_problem(const LinearSite& linear, const LinearFormat& format, int64_t tp) {
  if (linear.in % tp != 0) {
    return concat("--tp ", tp, " does not divide the ", linear.in, " input channels of '",
                  linear.name, "'");
  }
  const int64_t multiple = column_multiple(format);
  if (linear.in / tp % multiple != 0) {
    return concat("--tp ", tp, " leaves ", linear.in / tp, " input channels of '", linear.name,
                  "' to a rank, which is no multiple of the block of ", multiple,
                  " that shares a scale");
  }
  return std::nullopt;
}

Problem heads_problem(const StageSpec& stage, const TrtModule& qkv, int64_t tp) {
  const AttentionSite& attention = attention_of(stage, qkv);
  const int64_t heads = query_heads(stage, qkv);
  if (heads % tp != 0) {
    return concat("--tp ", tp, " does not divide the ", heads, " heads of '", attention.name, "'");
  }
  const int64_t kv = attention.kv_heads;
  if (kv % tp != 0 && tp % kv != 0) {
    return concat("--tp ", tp, " is neither a divisor nor a multiple of the ", kv,
                  " key and value heads of '", attention.name, "'");
  }
  return std::nullopt;
}

Problem tp_problem(const UnifiedForm& form, int64_t tp) {
  for (size_t s = 0; s < form.stages.size(); ++s) {
    const StageSpec& stage = form.model.stages()[s];
    const std::vector<LinearFormat>& formats = form.stages[s].linears;
    for (const TrtModule& module : trtllm_modules(stage)) {
      if (stage.kind == StageKind::kHead) {  // padded to a multiple of tp
        const bool odd = vocabulary_rows(form, tp).per_rank % 2 != 0;
        if (!odd || !formats.front().quantized() || !is_int4(formats.front())) continue;
        return concat("--tp ", tp, " leaves an odd number of rows of '", stage.linears[0].name,
                      "' to a rank, but INT4 keeps two in a byte");
      }
      if (is_qkv(module)) {
        if (const Problem problem = heads_problem(stage, module, tp)) return problem;
        for (const size_t i : module.linears) {
          const int64_t dim = attention_of(stage, module).key_dim;
          if (dim % row_multiple(formats[i]) == 0) continue;
          return concat("'", stage.linears[i].name, "' has heads of ", dim,
                        " rows, but INT4 keeps two in a byte");
        }
        continue;
      }
      for (const size_t i : module.linears) {
        const LinearSite& linear = stage.linears[i];
        const int64_t rows = is_fused_gate_up(stage, module) ? linear.out / 2 : linear.out;
        const Problem problem = linear.shard == ShardAxis::kInput
                                    ? columns_problem(linear, formats[i], tp)
                                    : rows_problem(linear, rows, formats[i], tp);
        if (problem) return problem;
      }
    }
  }
  return std::nullopt;
}

// The consumer numbers the layers of every stage from 0 and reads one list of unquantized modules
// for all of them (trtllm-export.md, 2.4).
Problem slots_problem(const UnifiedForm& form, const std::vector<size_t>& layers, int64_t pp) {
  const size_t per_stage = layers.size() / static_cast<size_t>(pp);
  for (size_t slot = 0; slot < per_stage; ++slot) {
    std::map<std::string, std::pair<std::string, size_t>> algo_of;
    for (size_t layer = slot; layer < layers.size(); layer += per_stage) {
      const StageSpec& stage = form.model.stages()[layers[layer]];
      for (const TrtModule& module : trtllm_modules(stage)) {
        const LinearFormat& format = form.stages[layers[layer]].linears[module.linears.front()];
        const std::string algo =
            format.quantized() ? concat(trtllm_algo(format), " ", format.codec->block()) : "none";
        const auto [first, added] = algo_of.emplace(module.name, std::pair(algo, layer));
        if (added || first->second.first == algo) continue;
        return concat("layers ", first->second.second, " and ", layer,
                      " get the same number in their pipeline stages, but only one of them has '",
                      module.name, "' as ", algo);
      }
    }
  }
  return std::nullopt;
}

Problem pp_problem(const UnifiedForm& form, int64_t pp) {
  for (const TrtPart& part : trtllm_parts(form.model)) {
    const auto layers = static_cast<int64_t>(part.layers.size());
    const std::string owner = part.folder.empty() ? "model" : part.folder;
    if (pp > layers) {
      return concat("--pp ", pp, " is more than the ", layers, " layers of the ", owner);
    }
    if (layers % pp != 0) {
      return concat("--pp ", pp, " does not divide the ", layers, " layers of the ", owner);
    }
    const Problem problem = pp == 1 ? std::nullopt : slots_problem(form, part.layers, pp);
    if (problem) return problem;
  }
  return std::nullopt;
}

void check_size(const char* option, int64_t wanted,
                const std::function<Problem(int64_t)>& problem) {
  const Problem found = problem(wanted);
  if (!found) return;
  int64_t works = wanted - 1;
  while (works > 0 && problem(works)) --works;
  throw UsageError(concat(*found, works > 0 ? concat("; --", option, " ", works, " works")
                                            : std::string("; use --target hf")));
}

void check_family(const UnifiedForm& form) {
  if (!form.family.trtllm_decoder.empty()) return;
  throw UsageError(concat("--target trtllm: TensorRT-LLM checkpoints of the family '",
                          form.family.name, "' cannot be written: use --target hf"));
}

void check_format(const StageSpec& stage, const LinearSite& linear, const LinearFormat& format) {
  if (!format.quantized()) return;
  const std::string name = format_name(format);
  const std::string algo = trtllm_algo(format);
  if (algo.empty()) {
    throw UsageError(concat("--target trtllm: '", linear.name, "' is ", name,
                            is_int4(format) ? concat(" in blocks of ", format.codec->block()) : "",
                            ", which TensorRT-LLM's checkpoints cannot carry: choose fp8, ",
                            "fp8_pc_pt, int8_sq, int4_awq, w4a8_awq (blocks of 128) or nvfp4, or ",
                            "use --target hf"));
  }
  const bool expert = linear.expert >= 0;
  if (expert && (algo == "W8A8_SQ_PER_CHANNEL" || algo == "FP8_PER_CHANNEL_PER_TOKEN")) {
    throw UsageError(concat("--target trtllm: '", linear.name, "' is an expert in ", name,
                            ", which TensorRT-LLM's mixture of experts does not know: choose fp8, ",
                            "int4_awq or nvfp4, or use --target hf"));
  }
  if (stage.kind == StageKind::kHead && algo == "FP8_PER_CHANNEL_PER_TOKEN") {
    throw UsageError(concat("--target trtllm: '", linear.name, "' must not be quantized in ", name,
                            ": leave it out of the recipe, or use --target hf"));
  }
}

// The linears of a module are stored as one.
void check_module(const StageSpec& stage, const TrtModule& module, const StagePlan& plan) {
  const size_t first = module.linears.front();
  for (const size_t i : module.linears) {
    if (same_format(plan.linears[first], plan.linears[i])) continue;
    throw UsageError(concat("--target trtllm: '", stage.linears[first].name, "' and '",
                            stage.linears[i].name, "' have different formats, but make one '",
                            module.name, "' there: give both the same, or use --target hf"));
  }
}

void check_cache(const KvFormat format) {
  if (has_bias(format) || rotates_keys(format)) {
    throw UsageError(concat("--target trtllm: TensorRT-LLM has no KV cache of the kind ",
                            kv_algo_of(format),
                            has_bias(format) ? " with a bias" : " with rotated keys",
                            ": choose --kv-cache fp8 or nvfp4, or use --target hf"));
  }
}

void check_formats(const UnifiedForm& form) {
  for (size_t s = 0; s < form.stages.size(); ++s) {
    const StageSpec& stage = form.model.stages()[s];
    for (size_t i = 0; i < stage.linears.size(); ++i) {
      check_format(stage, stage.linears[i], form.stages[s].linears[i]);
    }
    for (const TrtModule& module : trtllm_modules(stage)) {
      check_module(stage, module, form.stages[s]);
    }
    for (const KvFormat format : form.stages[s].kv) check_cache(format);
  }
}

}  // namespace

std::vector<TrtPart> trtllm_parts(const Model& model) {
  std::vector<TrtPart> parts;
  for (size_t s = 0; s < model.stages().size(); ++s) {
    switch (model.stages()[s].kind) {
      case StageKind::kEmbedding:
        // The encoder's last norm is part of the stage that begins the decoder.
        if (!parts.empty()) parts.back().closing = s;
        parts.push_back({"", true, s, {}, 0});
        break;
      case StageKind::kLayer:
        parts.back().layers.push_back(s);
        break;
      case StageKind::kHead:
        parts.back().closing = s;
        break;
    }
  }
  if (parts.size() > 1) {
    parts.front().folder = "encoder";
    parts.front().decoder = false;
    parts.back().folder = "decoder";
  }
  return parts;
}

bool is_qkv(const TrtModule& module) {
  return module.name.ends_with("attention.qkv");
}

const AttentionSite& attention_of(const StageSpec& stage, const TrtModule& qkv) {
  return stage.attentions[qkv.name.starts_with("cross_") ? 1 : 0];
}

bool is_int4(const LinearFormat& format) {
  return is_kind(format, "int4");
}

bool has_int4(const UnifiedForm& form) {
  for (const StagePlan& stage : form.stages) {
    for (const LinearFormat& format : stage.linears) {
      if (format.quantized() && is_int4(format)) return true;
    }
  }
  return false;
}

std::string trtllm_algo(const LinearFormat& format) {
  if (format.low_rank > 0) return "";
  const InputKind input = format.input.kind;
  if (is_int4(format)) {
    if (input == InputKind::kNone) return "W4A16_AWQ";
    return input == InputKind::kFp8 && format.codec->block() == 128 ? "W4A8_AWQ" : "";
  }
  if (is_kind(format, "int8")) return input == InputKind::kInt8 ? "W8A8_SQ_PER_CHANNEL" : "";
  if (format.pre_quant_scale != PreQuantScale::kNone) return "";
  if (is_kind(format, "fp8 per channel")) {
    return input == InputKind::kFp8Token ? "FP8_PER_CHANNEL_PER_TOKEN" : "";
  }
  if (is_kind(format, "fp8 tiles")) return "";
  if (is_kind(format, "fp8")) return input == InputKind::kFp8 ? "FP8" : "";
  if (is_kind(format, "nvfp4")) {
    return input == InputKind::kNvfp4 && format.codec->block() == 16 ? "NVFP4" : "";
  }
  return "";
}

VocabularyRows vocabulary_rows(const UnifiedForm& form, int64_t tp) {
  VocabularyRows rows;
  rows.stored = form.model.vocabulary();
  if (has_int4(form)) rows.stored = round_up(rows.stored, 64);
  rows.per_rank = round_up(rows.stored, tp) / tp;
  return rows;
}

std::vector<TrtModule> trtllm_modules(const StageSpec& stage) {
  std::vector<TrtModule> modules;
  std::map<std::string, size_t> index;
  for (size_t i = 0; i < stage.linears.size(); ++i) {
    const std::string& name = stage.linears[i].trtllm;
    const auto [found, added] = index.emplace(name, modules.size());
    if (added) modules.push_back({name, {}});
    modules[found->second].linears.push_back(i);
  }
  return modules;
}

bool is_fused_gate_up(const StageSpec& stage, const TrtModule& module) {
  if (module.name != "mlp.fc" || module.linears.size() != 1) return false;
  const bool has_gate =
      std::any_of(stage.linears.begin(), stage.linears.end(),
                  [](const LinearSite& linear) { return linear.trtllm == "mlp.gate"; });
  const LinearSite& fc = stage.linears[module.linears.front()];
  return !has_gate &&
         std::any_of(stage.linears.begin(), stage.linears.end(), [&](const LinearSite& linear) {
           return linear.trtllm == "mlp.proj" && fc.out == 2 * linear.in;
         });
}

int64_t query_heads(const StageSpec& stage, const TrtModule& qkv) {
  const AttentionSite& attention = attention_of(stage, qkv);
  const int64_t units = stage.linears[qkv.linears.front()].out / attention.key_dim;
  return qkv.linears.size() > 1 ? units : units - 2 * attention.kv_heads;
}

bool shares_head(const UnifiedForm& form, const Parallelism& parallel) {
  const LinearSite& head = form.model.stages().back().linears.front();
  const bool tied = head.weight != head.name + ".weight";
  return tied && parallel.pp == 1 && form.family.trtllm_decoder.starts_with("gemma");
}

void check_trtllm(const UnifiedForm& form, const Parallelism& parallel) {
  check_family(form);
  check_formats(form);
  check_size("pp", parallel.pp, [&](int64_t pp) { return pp_problem(form, pp); });
  check_size("tp", parallel.tp, [&](int64_t tp) { return tp_problem(form, tp); });
}

}  // namespace halftone
