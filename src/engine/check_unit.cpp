#include "engine/check_unit.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <utility>

#include "core/log.h"
#include "engine/check_values.h"
#include "engine/compressed_stage.h"
#include "export/hf_layout.h"

namespace halftone {
namespace {

bool is_scale(const std::string& suffix) {
  return suffix.find("scale") != std::string::npos;
}

// What linears that engines merge must have in common (formats-and-hf-export.md, 3.3 and 7.3).
struct GroupRow {
  const char* suffix;
  const char* rule;
  bool experts_only;  // others are served with scales of their own (3.3.2)
};
constexpr std::array kGroupRows{
    GroupRow{"input_scale", "unequal-input-scale", false},
    GroupRow{"weight_scale_2", "unequal-second-scale", false},
    GroupRow{"pre_quant_scale", "unequal-pre-quant-scale", false},
    GroupRow{"weight_scale", "unequal-weight-scale", true},
};

std::string shown(const PackedLinear& linear, const char* suffix) {
  const auto found = linear.find(suffix);
  if (found == linear.end()) return "none";
  if (found->second.numel() != 1) return "other values";
  return concat(found->second.item<float>());
}

bool same(const PackedLinear& a, const PackedLinear& b, const char* suffix) {
  const auto left = a.find(suffix);
  const auto right = b.find(suffix);
  if (left == a.end() || right == b.end()) return left == a.end() && right == b.end();
  return at::equal(left->second, right->second);
}

// Of the stage's units: by expert, and where there is none, by group or alone; -1: no linear.
std::pair<int, int> unit_of(const LinearSite& linear, size_t index) {
  if (linear.expert >= 0) return {linear.expert, -1};
  return {-1, linear.fused_group >= 0 ? linear.fused_group : -2 - static_cast<int>(index)};
}

}  // namespace

std::vector<HfPart> UnitChecker::parts_of(size_t stage, size_t linear) const {
  const StageSpec& spec = model_.stages()[stage];
  return hf_parts(spec.linears[linear], headers_.stages[stage].linears[linear], spec.experts,
                  dtype_);
}

bool UnitChecker::reads(const HfPart& part) const {
  return depth_ == CheckDepth::kWhole || (part.whole.dtype == DType::kF32 && is_scale(part.suffix));
}

void UnitChecker::add_linear(size_t stage, size_t linear, CheckUnit& unit) const {
  const LinearSite& site = model_.stages()[stage].linears[linear];
  if (!headers_.stages[stage].linears[linear].quantized()) return;
  if (headers_.unsound.count(site.name) > 0) return;
  unit.linears.push_back(linear);
  for (const HfPart& part : parts_of(stage, linear)) {
    if (reads(part)) unit.bytes += part.whole.bytes() / part.count;
  }
}

std::vector<CheckUnit> UnitChecker::plan() const {
  std::vector<CheckUnit> units;
  std::set<std::string> seen;  // tied tensors belong to several stages
  const bool whole = depth_ == CheckDepth::kWhole;
  for (size_t s = 0; s < model_.stages().size(); ++s) {
    const StageSpec& stage = model_.stages()[s];
    std::map<std::pair<int, int>, CheckUnit> of_stage;
    std::set<std::string> packed;
    for (size_t i = 0; i < stage.linears.size(); ++i) {
      if (headers_.stages[s].linears[i].quantized()) packed.insert(stage.linears[i].weight);
      add_linear(s, i, of_stage[unit_of(stage.linears[i], i)]);
    }
    for (size_t t = 0; whole && t < stage.tensors.size(); ++t) {
      const TensorNeed& need = stage.tensors[t];
      const bool sound = headers_.unsound.count(need.name) == 0 && packed.count(need.name) == 0 &&
                         checkpoint_.has(hf_part(need, dtype_).whole.name);
      if (!sound || !seen.insert(need.name).second) continue;
      CheckUnit& unit = of_stage[{need.expert, -1}];
      unit.copies.push_back(t);
      unit.bytes += locate_plain(checkpoint_, need).bytes;
    }
    for (size_t i = 0; i < stage.attentions.size(); ++i) of_stage[{-1, -1}].caches.push_back(i);
    for (auto& [key, unit] : of_stage) {
      if (unit.linears.empty() && unit.copies.empty() && unit.caches.empty()) continue;
      unit.stage = s;
      units.push_back(std::move(unit));
    }
  }
  for (const std::string& name : headers_.extra) {
    if (!whole) break;
    units.push_back({});
    units.back().extra = name;
    units.back().bytes = checkpoint_.info(name).bytes;
  }
  return units;
}

UnitResult UnitChecker::check(const CheckUnit& unit) const {
  UnitResult result;
  if (!unit.extra.empty()) {
    check_extra(unit.extra, result);
    return result;
  }
  std::map<size_t, PackedLinear> scales;
  for (const size_t linear : unit.linears) check_linear(unit, linear, scales, result);
  check_groups(unit, scales, result);
  for (const size_t tensor : unit.copies) check_copy(unit.stage, tensor, result);
  const StageSpec& stage = model_.stages()[unit.stage];
  for (const size_t cache : unit.caches) {
    check_cache(stage.attentions[cache], headers_.stages[unit.stage].kv[cache], result);
  }
  return result;
}

void UnitChecker::place(std::optional<Finding> finding, const std::string& tensor,
                        UnitResult& result) const {
  if (!finding) return;
  finding->tensor = tensor;
  if (checkpoint_.has(tensor)) finding->file = checkpoint_.file_of(tensor).filename().string();
  result.findings.push_back(std::move(*finding));
}

// Leaves the linear's scales in `scales`.
void UnitChecker::check_linear(const CheckUnit& unit, size_t linear,
                               std::map<size_t, PackedLinear>& scales, UnitResult& result) const {
  const StageSpec& stage = model_.stages()[unit.stage];
  const LinearSite& site = stage.linears[linear];
  const std::vector<HfPart> parts = parts_of(unit.stage, linear);
  std::vector<StoredTensor> stored;
  for (const HfPart& part : parts) {
    if (reads(part)) stored.push_back(stored_part(checkpoint_, site, part));
  }
  const LoadedStage loaded(std::move(stored), checkpoint_, at::kCPU, pool_);
  PackedLinear packed;
  for (const HfPart& part : parts) {
    if (!reads(part)) continue;
    packed[part.suffix] = loaded.tensor(site.name + "." + part.suffix);
    check_part(part, packed[part.suffix], result);
  }
  for (const GroupRow& row : kGroupRows) {
    const auto found = packed.find(row.suffix);
    if (found == packed.end() || (row.experts_only && found->second.numel() != 1)) continue;
    scales[linear][row.suffix] = found->second;
  }
  if (site.expert >= 0 && packed.count("input_scale") > 0) {
    const float scale = packed.at("input_scale").item<float>();
    if (std::isfinite(scale)) result.input_scales[concat(stage.name, " ", site.role)] = scale;
  }
  if (source_ == nullptr) return;
  const LinearFormat& format = headers_.stages[unit.stage].linears[linear];
  const SourceComparison::Linear compared =
      source_->linear(unit.stage, linear, unified_tensors(site.name, format, packed));
  if (!compared.db || std::isfinite(*compared.db)) result.sqnr_db[site.name] = compared.db;
  place(compared.finding, parts.front().whole.name, result);
}

void UnitChecker::check_part(const HfPart& part, const at::Tensor& tensor,
                             UnitResult& result) const {
  const DType dtype = part.whole.dtype;
  if (!is_scale(part.suffix)) {
    place(check_finite(tensor, dtype), part.whole.name, result);
    return;
  }
  const ScaleKind kind = dtype == DType::kF8E4M3 ? ScaleKind::kE4M3
                         : dtype == DType::kU8   ? ScaleKind::kE8M0
                                                 : ScaleKind::kFloat;
  place(check_scales(tensor, kind), part.whole.name, result);
}

void UnitChecker::check_groups(const CheckUnit& unit, const std::map<size_t, PackedLinear>& scales,
                               UnitResult& result) const {
  const std::vector<LinearSite>& linears = model_.stages()[unit.stage].linears;
  std::map<int, size_t> first_of;
  for (const size_t linear : unit.linears) {
    const int group = linears[linear].fused_group;
    if (group < 0 || scales.count(linear) == 0) continue;
    const size_t first = first_of.emplace(group, linear).first->second;
    if (first == linear) continue;
    for (const GroupRow& row : kGroupRows) {
      if (row.experts_only && linears[linear].expert < 0) continue;
      const PackedLinear& a = scales.at(first);
      const PackedLinear& b = scales.at(linear);
      if (same(a, b, row.suffix)) continue;
      const std::vector<HfPart> parts = parts_of(unit.stage, linear);
      const auto part = std::find_if(parts.begin(), parts.end(),
                                     [&](const HfPart& one) { return one.suffix == row.suffix; });
      place(Finding{row.rule,
                    {},
                    {},
                    concat(shown(a, row.suffix), ", as of '", linears[first].name,
                           "', with which engines merge it"),
                    shown(b, row.suffix)},
            part == parts.end() ? linears[linear].name : part->whole.name, result);
    }
  }
}

void UnitChecker::check_copy(size_t stage, size_t tensor, UnitResult& result) const {
  const TensorNeed& need = model_.stages()[stage].tensors[tensor];
  const StoredTensor stored = locate_plain(checkpoint_, need);
  const LoadedStage loaded({stored}, checkpoint_, at::kCPU, pool_);
  const at::Tensor values = loaded.tensor(need.name);
  const std::string& name = stored.pieces.front().tensor;
  place(check_finite(values, stored.dtype), name, result);
  if (source_ != nullptr) place(source_->copy(stage, tensor, values), name, result);
}

void UnitChecker::check_cache(const AttentionSite& attention, KvFormat format,
                              UnitResult& result) const {
  for (const TensorSpec& spec : cache_tensors(attention, format, dtype_, headers_.library)) {
    if (headers_.unsound.count(spec.name) > 0) continue;
    const StoredTensor stored = stored_plainly(checkpoint_.info(spec.name));
    const LoadedStage loaded({stored}, checkpoint_, at::kCPU, pool_);
    const at::Tensor values = loaded.tensor(spec.name);
    if (spec.shape.empty()) {
      place(check_scales(values, ScaleKind::kFloat), spec.name, result);
      if (std::isfinite(values.item<float>())) result.cache_scales.push_back(values.item<float>());
    } else {
      place(check_finite(values, spec.dtype), spec.name, result);
    }
  }
}

void UnitChecker::check_extra(const std::string& name, UnitResult& result) const {
  const StoredTensor stored = stored_plainly(checkpoint_.info(name));
  const LoadedStage loaded({stored}, checkpoint_, at::kCPU, pool_);
  const at::Tensor values = loaded.tensor(name);
  place(check_finite(values, stored.dtype), name, result);
  if (source_ != nullptr) place(source_->extra(name, values), name, result);
}

}  // namespace halftone
