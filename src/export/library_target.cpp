#include "export/library_target.h"

#include <array>

#include "core/error.h"
#include "core/log.h"
#include "export/library_targets.h"
#include "export/stored_names.h"

namespace halftone {
namespace {

const std::array<const LibraryTarget*, 3>& targets() {
  static const std::array<const LibraryTarget*, 3> all{&compressed_tensors_target(),
                                                       &autoawq_target(), &gptq_target()};
  return all;
}

// What no library's layout has a place for.
std::string common_problem(const LibraryTarget& library, const LinearFormat& format) {
  if (format.low_rank > 0) return "has a low-rank branch, which the layout has no place for";
  if (format.pre_quant_scale != PreQuantScale::kStored) return "";
  return concat("has a pre_quant_scale that neither a norm nor a linear before it takes, and the ",
                "layout has no place for it: quantize the original with --target ", library.name,
                ", which leaves such linears unsmoothed,");
}

[[noreturn]] void refuse(const LibraryTarget& library, const std::string& what) {
  throw UsageError(concat("--target ", library.name, ": ", what, " or use --target hf"));
}

}  // namespace

const LibraryTarget* library_target(const std::string& name) {
  for (const LibraryTarget* target : targets()) {
    if (name == target->name) return target;
  }
  return nullptr;
}

const LibraryTarget* library_of_method(const std::string& quant_method) {
  for (const LibraryTarget* target : targets()) {
    if (quant_method == target->method) return target;
  }
  return nullptr;
}

std::vector<std::string> library_target_names() {
  std::vector<std::string> names;
  for (const LibraryTarget* target : targets()) names.emplace_back(target->name);
  return names;
}

std::vector<std::string> library_methods() {
  std::vector<std::string> names;
  for (const LibraryTarget* target : targets()) names.emplace_back(target->method);
  return names;
}

LinearFormat in_library(const LibraryTarget& library, LinearFormat format, DType scales) {
  format.form = library.form(scales);
  return format;
}

LinearFormat format_in_library(const StoredQuantization& stored,
                               const StoredQuantization::Entry& entry, const LinearSite& linear,
                               const Checkpoint& checkpoint) {
  const LibraryTarget& library = *stored.library;
  DType scales = library.written_scales;
  const std::string name = linear.name + "." + library.scales;
  if (checkpoint.has(name) && is_full_precision(checkpoint.info(name).dtype)) {
    scales = checkpoint.info(name).dtype;
  }
  return in_library(library, entry.format, scales);
}

void check_library(const LibraryTarget& library, const Model& model,
                   const std::vector<StagePlan>& stages) {
  const LinearSite* first = nullptr;
  const LinearFormat* format = nullptr;
  for (size_t s = 0; s < stages.size(); ++s) {
    const StageSpec& stage = model.stages()[s];
    for (size_t i = 0; i < stage.linears.size(); ++i) {
      const LinearSite& linear = stage.linears[i];
      const LinearFormat& mine = stages[s].linears[i];
      if (!mine.quantized()) continue;
      std::string problem = common_problem(library, mine);
      if (problem.empty()) problem = library.problem(linear, mine);
      if (!problem.empty()) refuse(library, concat("'", linear.name, "' ", problem));
      if (first == nullptr) {
        first = &linear;
        format = &mine;
      }
      if (!library.one_format || mine.codec->name() == format->codec->name()) continue;
      refuse(library, concat("'", first->name, "' is ", format->codec->name(), " and '",
                             linear.name, "' is ", mine.codec->name(),
                             ", but the layout knows one format: give both the same"));
    }
    for (const KvFormat kv : stages[s].kv) {
      const bool fp8 = kv == KvFormat::kFp8 || kv == KvFormat::kFp8Cast;
      if (kv == KvFormat::kNone || (fp8 && library.fp8_cache)) continue;
      refuse(library, concat("the layout has no place for a KV cache of the kind ", kv_algo_of(kv),
                             ": choose --kv-cache ", library.fp8_cache ? "fp8 or none" : "none"));
    }
  }
  if (first != nullptr) return;
  refuse(library,
         "no linear is quantized, and the layout is one of quantized linears: choose a "
         "--format for them");
}

}  // namespace halftone
