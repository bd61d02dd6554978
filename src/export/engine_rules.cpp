#include "export/engine_rules.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>

#include "core/error.h"
#include "core/log.h"
#include "core/text_distance.h"
#include "export/engine_sharding.h"
#include "export/stored_names.h"
#include "formats/quant_algo.h"
#include "formats/quantizer.h"

namespace halftone {
namespace {

constexpr std::array<const char*, 3> kNames{"vllm", "sglang", "trtllm"};

enum class Verdict : uint8_t { kYes, kNo, kUnproven };
using Verdicts = std::array<Verdict, 3>;  // vLLM, SGLang, TensorRT-LLM
constexpr Verdict kYes = Verdict::kYes;
constexpr Verdict kNo = Verdict::kNo;
constexpr Verdict kUnproven = Verdict::kUnproven;

// formats-and-hf-export.md, 7.1 to 7.4.
struct FormatRow {
  std::string_view algo;
  Verdicts uniform;
  Verdicts mixed;  // as one of several formats
};
constexpr std::array kFormats{
    FormatRow{"FP8", {kYes, kYes, kYes}, {kYes, kUnproven, kYes}},
    FormatRow{"FP8_PER_CHANNEL_PER_TOKEN", {kYes, kNo, kYes}, {kNo, kNo, kUnproven}},
    FormatRow{"fp8_pb_wo", {kYes, kNo, kYes}, {kNo, kNo, kUnproven}},
    FormatRow{"NVFP4", {kYes, kYes, kYes}, {kYes, kUnproven, kYes}},
    FormatRow{"W4A16_NVFP4", {kYes, kNo, kUnproven}, {kYes, kNo, kUnproven}},
    FormatRow{"NVFP4_AWQ", {kNo, kNo, kUnproven}, {kNo, kNo, kUnproven}},
    FormatRow{"NVFP4_SVD", {kNo, kNo, kNo}, {kNo, kNo, kNo}},
    FormatRow{"W4A16_AWQ", {kNo, kNo, kYes}, {kNo, kNo, kUnproven}},
    FormatRow{"W4A8_AWQ", {kNo, kNo, kYes}, {kNo, kNo, kUnproven}},
    FormatRow{"W4A8_NVFP4_FP8", {kNo, kNo, kYes}, {kNo, kNo, kUnproven}},
    FormatRow{"W4A8_MXFP4_FP8", {kNo, kNo, kUnproven}, {kNo, kNo, kUnproven}},
    FormatRow{"MXFP8", {kYes, kNo, kUnproven}, {kNo, kNo, kUnproven}},
    FormatRow{"W8A8_SQ_PER_CHANNEL", {kNo, kNo, kNo}, {kNo, kNo, kNo}},
    FormatRow{"W8A16", {kNo, kNo, kNo}, {kNo, kNo, kNo}},
    FormatRow{"mxfp4", {kNo, kNo, kNo}, {kNo, kNo, kNo}},
    FormatRow{"NF4", {kUnproven, kNo, kNo}, {kNo, kNo, kNo}},
};

// Formats in the layouts of other libraries, by quant_method.
struct LibraryRow {
  std::string_view method;
  std::string_view format;  // format_name()
  Verdicts verdicts;
};
constexpr std::string_view kCompressed = "compressed-tensors";
constexpr std::array kLibraryFormats{
    LibraryRow{kCompressed, "fp8", {kYes, kUnproven, kUnproven}},
    LibraryRow{kCompressed, "fp8_pc_pt", {kYes, kUnproven, kUnproven}},
    LibraryRow{kCompressed, "fp8_pb_wo", {kYes, kUnproven, kUnproven}},
    LibraryRow{kCompressed, "int8_sq", {kYes, kUnproven, kUnproven}},
    LibraryRow{kCompressed, "int8_wo", {kYes, kUnproven, kUnproven}},
    LibraryRow{kCompressed, "int4_awq", {kYes, kUnproven, kUnproven}},
    LibraryRow{kCompressed, "nvfp4", {kYes, kUnproven, kUnproven}},
    LibraryRow{kCompressed, "w4a16_nvfp4", {kYes, kUnproven, kUnproven}},
    LibraryRow{kCompressed, "mxfp4", {kUnproven, kUnproven, kUnproven}},
    LibraryRow{kCompressed, "mxfp8", {kYes, kUnproven, kUnproven}},
    LibraryRow{"awq", "int4_awq", {kYes, kYes, kUnproven}},
    LibraryRow{"gptq", "int4_awq", {kYes, kYes, kUnproven}},
};
// Blocks of INT4 weights for which vLLM has kernels in these layouts.
constexpr std::array<int64_t, 3> kVllmInt4Blocks{32, 64, 128};

// A quantized cache: what the engine does with it.
struct CacheRow {
  KvFormat format;
  Verdicts verdicts;
  std::array<std::string_view, 3> found;  // what is wrong; empty: nothing
};
constexpr std::string_view kBiasUnknown = "biases of keys and values, which no loader reads";
constexpr std::string_view kSixfold =
    "scales of amax / 448, which its loader takes for amax / 2688 (a known mismatch)";
constexpr std::string_view kIgnored = "NVFP4: the scheme is ignored, the cache is not quantized";
constexpr std::string_view kRaises = "NVFP4: its loader wants a dictionary and fails";
constexpr std::array kCaches{
    CacheRow{KvFormat::kFp8, {kYes, kYes, kYes}, {}},
    CacheRow{KvFormat::kFp8Cast, {kYes, kYes, kYes}, {}},
    CacheRow{KvFormat::kFp8Affine,
             {kUnproven, kUnproven, kUnproven},
             {kBiasUnknown, kBiasUnknown, kBiasUnknown}},
    CacheRow{KvFormat::kNvfp4, {kUnproven, kNo, kUnproven}, {kIgnored, kRaises, kSixfold}},
    CacheRow{KvFormat::kNvfp4Cast, {kUnproven, kNo, kYes}, {kIgnored, kRaises, {}}},
    CacheRow{KvFormat::kNvfp4Affine, {kUnproven, kNo, kUnproven}, {kIgnored, kRaises, kSixfold}},
    CacheRow{KvFormat::kNvfp4Rotate, {kUnproven, kNo, kUnproven}, {kIgnored, kRaises, kSixfold}},
};

// Whether an engine's loader takes a pattern of the list for this module.
using Covers = bool (*)(const std::string& pattern, const std::string& module);

bool vllm_covers(const std::string& pattern, const std::string& module) {
  if (module.find(pattern) != std::string::npos || glob_matches(pattern, module)) return true;
  if (!pattern.ends_with('*')) return false;
  const std::string stem = pattern.substr(0, pattern.size() - 1);
  return module == stem || module.starts_with(stem + ".");
}
bool is_substring(const std::string& pattern, const std::string& module) {
  return module.find(pattern) != std::string::npos;
}
bool is_glob(const std::string& pattern, const std::string& module) {
  return pattern == module || glob_matches(pattern, module);
}

struct SpellingRow {
  std::string_view algo;  // begins with this; empty: any other
  std::array<Covers, 3> covers;
};
constexpr std::array kSpellings{
    SpellingRow{"FP8", {&vllm_covers, &is_substring, &is_glob}},
    SpellingRow{"", {&vllm_covers, &is_glob, &is_glob}},
};

size_t index_of(Engine engine) {
  return static_cast<size_t>(engine);
}

class EngineCheck {
 public:
  EngineCheck(Engine engine, int64_t tp, const ServedCheckpoint& served)
      : engine_(engine), tp_(tp), served_(served) {
    for (size_t s = 0; s < served.stages.size(); ++s) {
      for (const LinearFormat& format : served.stages[s].linears) {
        if (!format.quantized()) continue;
        if (format.form) {
          library_ = served.config.quantization_config.at("quant_method").get<std::string>();
          algos_.insert(library_format(format));
        } else {
          algos_.insert(quant_algo_of(format).name);
        }
      }
    }
  }

  Findings run() {
    if (library_.empty()) {
      check_formats();
      check_block_size();
    } else {
      check_library_formats();
      check_int4_blocks();
    }
    check_caches();
    check_files();
    check_spelling();
    check_layers();
    return std::move(findings_);
  }

 private:
  // AWQ's search leaves nothing in these layouts.
  static std::string library_format(const LinearFormat& format) {
    const std::string name = format_name(format);
    return name == "nvfp4_awq" ? "nvfp4" : name;
  }

  bool is_mixed() const { return algos_.size() > 1; }
  std::string who() const {
    constexpr std::array<const char*, 3> kTitles{"vLLM", "SGLang", "TensorRT-LLM"};
    return kTitles[index_of(engine_)];
  }
  void add(const char* rule, const std::string& tensor, const std::string& expected,
           std::string found, bool warning = false) {
    findings_.push_back(
        {rule, tensor, {}, concat("for ", who(), " ", expected), std::move(found), warning});
  }

  std::string readable_formats() const {
    std::string list;
    for (const FormatRow& row : kFormats) {
      const Verdicts& verdicts = is_mixed() ? row.mixed : row.uniform;
      if (verdicts[index_of(engine_)] == kYes) list += concat(list.empty() ? "" : ", ", row.algo);
    }
    return list.empty() ? "one format in the whole checkpoint" : "one of " + list;
  }

  void check_formats() {
    for (const std::string& algo : algos_) {
      const auto row = std::find_if(kFormats.begin(), kFormats.end(),
                                    [&](const FormatRow& entry) { return entry.algo == algo; });
      const Verdict verdict = row == kFormats.end() ? kNo
                              : is_mixed()          ? row->mixed[index_of(engine_)]
                                                    : row->uniform[index_of(engine_)];
      if (verdict == kYes) continue;
      add("engine-format", {}, readable_formats(),
          concat(algo, is_mixed() ? " among others" : "",
                 verdict == kUnproven ? ", which nobody has proved to work" : ""),
          verdict == kUnproven);
    }
  }

  void check_library_formats() {
    for (const std::string& format : algos_) {
      const auto* row = std::find_if(kLibraryFormats.begin(), kLibraryFormats.end(),
                                     [&](const LibraryRow& entry) {
                                       return entry.method == library_ && entry.format == format;
                                     });
      const Verdict verdict = row == kLibraryFormats.end() ? kNo : row->verdicts[index_of(engine_)];
      if (verdict == kYes) continue;
      add("engine-format", {}, concat("a format that it reads in the layout of ", library_),
          concat(format, verdict == kUnproven ? ", which nobody has proved to work" : ""),
          verdict == kUnproven);
    }
  }

  void check_int4_blocks() {
    if (engine_ != Engine::kVllm) return;
    for (size_t s = 0; s < served_.stages.size(); ++s) {
      for (size_t i = 0; i < served_.stages[s].linears.size(); ++i) {
        const LinearFormat& format = served_.stages[s].linears[i];
        if (!format.quantized() || !format.codec->name().starts_with("int4")) continue;
        const int64_t block = format.codec->block();
        if (std::find(kVllmInt4Blocks.begin(), kVllmInt4Blocks.end(), block) !=
            kVllmInt4Blocks.end()) {
          continue;
        }
        return add("engine-group-size", served_.model.stages()[s].linears[i].name,
                   "blocks of 32, 64 or 128", concat("blocks of ", block));
      }
    }
  }

  void check_caches() {
    std::set<KvFormat> formats;
    for (const StagePlan& stage : served_.stages) formats.insert(stage.kv.begin(), stage.kv.end());
    for (const CacheRow& row : kCaches) {
      const Verdict verdict = row.verdicts[index_of(engine_)];
      if (formats.count(row.format) == 0 || verdict == kYes) continue;
      add("engine-kv-cache", {}, "a KV cache that it reads: none or FP8",
          std::string(row.found[index_of(engine_)]), verdict == kUnproven);
    }
  }

  // vLLM reads one group_size beside quant_algo and takes 16 where there is none.
  void check_block_size() {
    if (engine_ != Engine::kVllm || is_mixed()) return;
    for (const StagePlan& stage : served_.stages) {
      for (const LinearFormat& format : stage.linears) {
        const bool nvfp4 = format.quantized() && format.codec->name().starts_with("nvfp4");
        if (!nvfp4 || format.codec->block() == 16) continue;
        const Json& flat = served_.config.quantization_config;
        if (flat.contains("group_size") && flat.at("group_size") == format.codec->block()) return;
        add("engine-group-size", {},
            concat("group_size ", format.codec->block(), " beside quant_algo in config.json"),
            "none there, which it takes for 16");
        return;
      }
    }
  }

  void check_files() {
    if (engine_ == Engine::kTrtllm && is_mixed() && !served_.has_file("quant_cfg.json")) {
      findings_.push_back({"engine-missing-file",
                           {},
                           "quant_cfg.json",
                           concat("for ", who(), " the formats of all layers"),
                           "no such file"});
    }
  }

  // The list of a checkpoint with one format must say to this engine what it says to us.
  void check_spelling() {
    if (is_mixed() || algos_.empty()) return;
    // The other libraries' lists name modules in full, but AWQ's are looked for within names.
    if (!library_.empty() && library_ != "awq") return;
    const char* key = library_.empty() ? "ignore" : "modules_to_not_convert";
    const ExcludeList list(served_.config.quantization_config.value(key, Json::array()));
    const auto row =
        std::find_if(kSpellings.begin(), kSpellings.end(), [&](const SpellingRow& entry) {
          return entry.algo.empty() || algos_.begin()->starts_with(entry.algo);
        });
    const Covers covers = library_.empty() ? row->covers[index_of(engine_)] : &is_substring;
    const auto covered = [&](const std::string& module) {
      return std::any_of(list.patterns().begin(), list.patterns().end(),
                         [&](const std::string& pattern) { return covers(pattern, module); });
    };
    for (size_t s = 0; s < served_.stages.size(); ++s) {
      const StageSpec& stage = served_.model.stages()[s];
      // No engine quantizes heads unasked.
      if (stage.kind != StageKind::kLayer) continue;
      for (size_t i = 0; i < stage.linears.size(); ++i) {
        const std::string& name = stage.linears[i].name;
        const bool quantized = served_.stages[s].linears[i].quantized();
        if (covered(name) != quantized) continue;
        add("engine-exclude-spelling", name,
            quantized ? "no excluded module that takes it in" : "a spelling that it understands",
            quantized ? "it is quantized, but the list takes it in"
                      : "it is not quantized, but the list does not take it in");
      }
    }
  }

  void check_layers() {
    for (size_t s = 0; s < served_.stages.size(); ++s) {
      const StageSpec& stage = served_.model.stages()[s];
      const StagePlan& plan = served_.stages[s];
      check_groups(stage, plan);
      for (size_t i = 0; i < stage.linears.size(); ++i)
        check_smoothing(stage.linears[i], plan.linears[i]);
      // Embeddings and heads are padded.
      if (stage.kind != StageKind::kLayer) continue;
      for (const ShardFault& fault : shard_faults(stage, plan, tp_, engine_ == Engine::kVllm)) {
        add(fault.rule, fault.module, fault.expected, fault.found);
      }
    }
  }

  // Merged linears have one format.
  void check_groups(const StageSpec& stage, const StagePlan& plan) {
    std::map<int, size_t> first_of;
    for (size_t i = 0; i < stage.linears.size(); ++i) {
      const int group = stage.linears[i].fused_group;
      if (group < 0) continue;
      const size_t first = first_of.emplace(group, i).first->second;
      if (same_format(plan.linears[first], plan.linears[i])) continue;
      add("engine-fused-formats", stage.linears[i].name,
          concat("the format of '", stage.linears[first].name, "', with which it is merged"),
          "another one");
    }
  }

  void check_smoothing(const LinearSite& linear, const LinearFormat& format) {
    const bool awq = format.quantized() && format.codec->name().starts_with("int4");
    if (engine_ != Engine::kTrtllm || !awq || format.form || linear.shard != ShardAxis::kInput)
      return;
    if (format.pre_quant_scale == PreQuantScale::kStored) return;
    add("engine-pre-quant-scale", linear.name, "a pre_quant_scale, which its kernels ask for",
        "none");
  }

  Engine engine_;
  int64_t tp_;
  const ServedCheckpoint& served_;
  std::set<std::string> algos_;
  std::string library_;  // quant_method of another library's layout; empty: a unified checkpoint
  Findings findings_;
};

}  // namespace

const char* name_of(Engine engine) {
  return kNames[index_of(engine)];
}

std::vector<std::string> engine_names() {
  return {kNames.begin(), kNames.end()};
}

std::vector<Engine> engines_of(const std::string& list) {
  std::vector<Engine> engines;
  size_t begin = 0;
  while (begin < list.size()) {
    const size_t end = std::min(list.find(',', begin), list.size());
    const std::string name = list.substr(begin, end - begin);
    const auto found = std::find(kNames.begin(), kNames.end(), name);
    if (found == kNames.end()) {
      throw UsageError(concat("--engine: unknown engine '", name, "'",
                              nearest_hint(name, engine_names()), "; known: vllm, sglang, trtllm"));
    }
    engines.push_back(static_cast<Engine>(found - kNames.begin()));
    begin = end + 1;
  }
  return engines;
}

Findings check_engine(Engine engine, int64_t tp, const ServedCheckpoint& served) {
  return EngineCheck(engine, tp, served).run();
}

}  // namespace halftone
