#include "export/linear_headers.h"

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "export/library_target.h"
#include "formats/codecs.h"
#include "formats/quant_algo.h"

namespace halftone {
namespace {

// The block of the stored block scales, where they have another one than the format's.
std::optional<int64_t> stored_block(const HfPart& part, const TensorInfo& info, int64_t block) {
  const std::vector<int64_t>& expected = part.whole.shape;
  const std::vector<int64_t>& found = info.shape;
  if (part.suffix != "weight_scale" || block == 0 || found.size() != 2) return std::nullopt;
  if (expected.size() != 2 || found[0] != expected[0] || found[1] < 2) return std::nullopt;
  const int64_t size = expected[1] * block;
  const int64_t stored = size / found[1];
  const bool power_of_two = (stored & (stored - 1)) == 0;
  return size % found[1] == 0 && power_of_two ? std::optional(stored) : std::nullopt;
}

}  // namespace

void HeaderNotes::add(const char* rule, const std::string& tensor, std::string expected,
                      std::string found) {
  const std::string file = has(tensor) ? checkpoint.file_of(tensor).filename().string() : "";
  result.findings.push_back({rule, tensor, file, std::move(expected), std::move(found)});
}

void HeaderNotes::warn(const char* rule, const std::string& tensor, std::string expected,
                       std::string found) {
  add(rule, tensor, std::move(expected), std::move(found));
  result.findings.back().warning = true;
}

std::string described(DType dtype, const std::vector<int64_t>& shape) {
  return concat(name_of(dtype), " ", shape_text(shape));
}

std::string container_of(const LinearSite& linear) {
  return linear.stacked.substr(0, linear.stacked.rfind('.'));
}

LinearHeaders::LinearHeaders(HeaderNotes& notes, const StoredQuantization& stored, DType dtype)
    : notes_(notes),
      stored_(stored),
      dtype_(dtype),
      is_nf4_(stored.uniform.algo == "NF4"),
      is_uniform_(stored.layers.empty() && !stored.uniform.algo.empty()),
      excluded_(stored.excluded) {}

std::vector<LinearFormat> LinearHeaders::check(const StageSpec& stage) {
  std::vector<LinearFormat> formats;
  for (const LinearSite& linear : stage.linears) formats.push_back(check_linear(stage, linear));
  check_lacking(stage);
  return formats;
}

// What the configuration says of a linear; null: it stays as it is.
const LinearHeaders::Entry* LinearHeaders::entry_of(const LinearSite& linear, bool stacked) const {
  if (is_uniform_ || is_nf4_) {
    const bool left_out =
        excluded_.covers(linear.name) || (stacked && excluded_.covers(container_of(linear)));
    return left_out ? nullptr : &stored_.uniform;
  }
  const auto found = stored_.layers.find(stacked ? container_of(linear) : linear.name);
  return found == stored_.layers.end() ? nullptr : &found->second;
}

bool LinearHeaders::is_coded(const LinearSite& linear, bool stacked) const {
  const std::string name = hf_name(linear, stacked, "weight");
  const bool scaled = notes_.has(hf_name(linear, stacked, stored_.scales())) ||
                      (is_nf4_ && notes_.has(linear.name + "." + kNf4State));
  return scaled || (notes_.has(name) && !is_full_precision(notes_.checkpoint.info(name).dtype));
}

LinearFormat LinearHeaders::check_linear(const StageSpec& stage, const LinearSite& linear) {
  const bool stacked =
      !linear.stacked.empty() && stored_.library == nullptr &&
      (notes_.has(hf_name(linear, true, "weight_scale")) || is_coded(linear, true));
  const bool coded = is_coded(linear, stacked);
  const bool plain = !coded && (notes_.has(linear.weight) || notes_.has(linear.stacked));
  const Entry* entry = entry_of(linear, stacked);
  if (entry == nullptr && !coded) return {};
  if (entry == nullptr) {
    notes_.add(is_uniform_ || is_nf4_ ? "excluded-but-quantized" : "not-listed",
               hf_name(linear, stacked, "weight"), "as in the source, by the configuration",
               "quantized");
    if (stored_.uniform.algo.empty()) return set_aside(linear, stacked);
    entry = &stored_.uniform;
  } else if (plain) {
    require_listed(linear);
    return {};
  }
  return check_format(stage, linear, stacked, *entry);
}

void LinearHeaders::require_listed(const LinearSite& linear) {
  const std::string name = linear.stacked.empty() ? linear.name : container_of(linear);
  if (!unlisted_.insert(name).second) return;
  if (is_uniform_ || is_nf4_) {
    notes_.add("not-excluded", linear.name, "in the list of excluded modules: it is not quantized",
               "not in the list");
  } else {
    notes_.add("listed-but-unquantized", linear.name, "quantized, as quantized_layers says",
               "not quantized");
  }
}

void LinearHeaders::require_excluded(const std::string& module, bool embedding) {
  if (excluded_.covers(module)) return;
  // Engines never quantize embeddings.
  notes_.add("not-excluded", module, "in the list of excluded modules: it is not quantized",
             "not in the list");
  notes_.result.findings.back().warning = embedding;
}

// Of a linear that cannot be read nothing else is said.
LinearFormat LinearHeaders::set_aside(const LinearSite& linear, bool stacked) {
  const std::string prefix = stacked ? linear.stacked : linear.name + ".";
  const std::vector<std::string>& names = notes_.checkpoint.names();
  for (auto name = std::lower_bound(names.begin(), names.end(), prefix);
       name != names.end() && name->starts_with(prefix); ++name) {
    notes_.consumed.insert(*name);
  }
  notes_.result.unsound.insert({linear.name, linear.weight});
  return {};
}

LinearFormat LinearHeaders::check_format(const StageSpec& stage, const LinearSite& linear,
                                         bool stacked, const Entry& entry) {
  const std::optional<LinearFormat> format = format_of(linear, stacked, entry);
  if (!format) {
    if (unknown_.insert(entry.algo).second) {
      notes_.add("unknown-format", linear.name, "a quant_algo that halftone knows",
                 "'" + entry.algo + "'");
    }
    return set_aside(linear, stacked);
  }
  if (!format->quantized()) {
    notes_.add("missing-scale", linear.name + "." + kNf4State, "the state of the quantized weight",
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
    notes_.add("wrong-shape", hf_name(linear, stacked, "weight"),
               "a size that the format's blocks divide", error.what());
    return set_aside(linear, stacked);
  }
  check_parts(stage, linear, *format);
  return *format;
}

std::optional<LinearFormat> LinearHeaders::format_of(const LinearSite& linear, bool stacked,
                                                     const Entry& entry) const {
  if (is_nf4_) {
    LinearFormat format;
    const std::string state = linear.name + "." + kNf4State;
    if (notes_.has(state)) format.codec = make_nf4_codec(notes_.checkpoint.info(state).count());
    return format;
  }
  if (stored_.library != nullptr)
    return format_in_library(stored_, entry, linear, notes_.checkpoint);
  const bool branch =
      notes_.has(linear.name + "." + kLowRankA) || notes_.has(linear.name + "." + kLowRankB);
  auto format = format_of_algo(entry.algo, entry.group_size, entry.weight_only,
                               [&](const std::string& suffix) {
                                 // What such a format cannot do without.
                                 if (suffix == "input_scale" && entry.algo == "FP8") return true;
                                 if (suffix == "pre_quant_scale" && branch) return true;
                                 return notes_.has(hf_name(linear, stacked, suffix));
                               });
  if (!format) return format;
  if (branch) format->low_rank = rank_of_branch(linear);
  if (entry.algo.find("AWQ") != std::string::npos) format->smoothing = Smoothing::kAwq;
  if (entry.algo == "NVFP4_SVD") format->smoothing = Smoothing::kSvdQuant;
  return format;
}

int64_t LinearHeaders::rank_of_branch(const LinearSite& linear) const {
  const auto size = [&](const char* factor, size_t dimension) -> int64_t {
    const std::string name = linear.name + "." + factor;
    if (!notes_.has(name) || notes_.checkpoint.info(name).shape.size() != 2) return 0;
    return notes_.checkpoint.info(name).shape[dimension];
  };
  return std::max<int64_t>(1, std::max(size(kLowRankA, 0), size(kLowRankB, 1)));
}

void LinearHeaders::check_parts(const StageSpec& stage, const LinearSite& linear,
                                const LinearFormat& format) {
  const std::vector<HfPart> parts = hf_parts(linear, format, stage.experts, dtype_);
  const bool none = std::none_of(parts.begin(), parts.end(),
                                 [&](const HfPart& part) { return notes_.has(part.whole.name); });
  if (none) {
    lacking_[linear.expert].push_back(parts.front().whole.name);
    notes_.result.unsound.insert(linear.name);
    return;
  }
  for (const HfPart& part : parts) {
    const bool first = notes_.consumed.insert(part.whole.name).second;
    const bool sound =
        first ? check_part(part, format.codec->block()) : notes_.bad.count(part.whole.name) == 0;
    if (sound) continue;
    notes_.bad.insert(part.whole.name);
    notes_.result.unsound.insert(linear.name);
  }
}

bool LinearHeaders::check_part(const HfPart& part, int64_t block) {
  const TensorSpec& spec = part.whole;
  const bool scale = part.suffix.find("scale") != std::string::npos ||
                     part.suffix.find("absmax") != std::string::npos;
  if (!notes_.has(spec.name)) {
    const char* rule = part.suffix == "input_scale" ? "missing-input-scale"
                       : scale                      ? "missing-scale"
                                                    : "missing-tensor";
    notes_.add(rule, spec.name, described(spec.dtype, spec.shape), "missing");
    return false;
  }
  const TensorInfo& info = notes_.checkpoint.info(spec.name);
  if (info.dtype == spec.dtype && info.shape == spec.shape) return true;
  if (info.dtype != spec.dtype) {
    notes_.add("wrong-dtype", spec.name, described(spec.dtype, spec.shape),
               described(info.dtype, info.shape));
  } else if (const auto stored = stored_block(part, info, block)) {
    add_group_size(spec.name, block, *stored);
  } else {
    notes_.add(scale ? "wrong-scale-shape" : "wrong-shape", spec.name,
               described(spec.dtype, spec.shape), described(info.dtype, info.shape));
  }
  return false;
}

void LinearHeaders::add_group_size(const std::string& tensor, int64_t in_config, int64_t stored) {
  notes_.add("group-size", tensor, concat("blocks of ", in_config, ", as the configuration says"),
             concat("blocks of ", stored));
}

void LinearHeaders::check_lacking(const StageSpec& stage) {
  for (const auto& [expert, weights] : std::exchange(lacking_, {})) {
    const auto linears = std::count_if(
        stage.linears.begin(), stage.linears.end(),
        [expert = expert](const LinearSite& linear) { return linear.expert == expert; });
    if (expert >= 0 && static_cast<size_t>(linears) == weights.size()) {
      const std::string first = weights.front().substr(0, weights.front().rfind('.'));
      notes_.add("missing-expert", first.substr(0, first.rfind('.')),
                 concat(linears, " quantized linears"), "none of them");
      continue;
    }
    for (const std::string& weight : weights) {
      notes_.add("missing-tensor", weight, "the quantized weight and its scales", "missing");
    }
  }
}

}  // namespace halftone
