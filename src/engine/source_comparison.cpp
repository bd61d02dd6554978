#include "engine/source_comparison.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/log.h"
#include "engine/sqnr.h"
#include "engine/stored_linear.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

double least_db(const Codec& codec) {
  const std::string name = codec.name();
  const bool eight = name.starts_with("fp8") || name.starts_with("int8") || name == "mxfp8";
  return eight ? kLeastDb8 : kLeastDb4;
}

bool same_contents(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() != b.scalar_type() || a.sizes() != b.sizes()) return false;
  const at::Tensor left = a.contiguous();
  const at::Tensor right = b.contiguous();
  return left.nbytes() == 0 ||
         std::memcmp(left.const_data_ptr(), right.const_data_ptr(), left.nbytes()) == 0;
}

Finding changed(const at::Tensor& stored, const at::Tensor& original) {
  Finding finding{"changed-tensor", {}, {}, "the source's values", "others"};
  if (!stored.is_floating_point() || stored.sizes() != original.sizes()) return finding;
  const at::Tensor difference = (stored.to(at::kFloat) - original.to(at::kFloat)).abs();
  finding.found = concat("others in ", at::count_nonzero(difference).item<int64_t>(), " of ",
                         stored.numel(), " places, by up to ", difference.max().item<float>());
  return finding;
}

// Each nibble in the other's place.
at::Tensor swapped_nibbles(const at::Tensor& bytes) {
  return at::bitwise_or(at::bitwise_left_shift(bytes, 4), at::bitwise_right_shift(bytes, 4));
}

}  // namespace

at::Tensor SourceComparison::source_weight(size_t stage, size_t index) const {
  const std::string& weight = model_.stages()[stage].linears[index].weight;
  const std::vector<TensorNeed>& needs = model_.stages()[stage].tensors;
  const auto need = std::find_if(needs.begin(), needs.end(),
                                 [&](const TensorNeed& one) { return one.name == weight; });
  const StoredTensor& stored = source_.stages()[stage][static_cast<size_t>(need - needs.begin())];
  const LoadedStage loaded({stored}, source_.checkpoint(), at::kCPU, pool_);
  return loaded.tensor_as(weight, at::kFloat).contiguous();
}

PackedLinear SourceComparison::packed(size_t stage, size_t index) const {
  const StageSpec& spec = model_.stages()[stage];
  return read_packed(checkpoint_, spec.linears[index], format(stage, index), spec.experts, dtype_,
                     pool_);
}

// AWQ's scale of the group that reads the norm, unless it is stored beside the weights
// (formats-and-hf-export.md, 3.3.3).
bool SourceComparison::folds_into_norm(size_t stage, const NormSite& norm) const {
  const std::vector<LinearSite>& linears = model_.stages()[stage].linears;
  for (size_t i = 0; i < linears.size(); ++i) {
    const LinearFormat& mine = format(stage, i);
    if (linears[i].fused_group != norm.fused_group || !mine.quantized()) continue;
    if (mine.smoothing == Smoothing::kAwq && mine.pre_quant_scale == PreQuantScale::kNone) {
      return headers_.unsound.count(norm.weight) == 0;
    }
  }
  return false;
}

// NVFP4-AWQ's scale of an input that another linear makes (3.3.4).
bool SourceComparison::folds_into_previous(size_t stage, size_t index) const {
  const LinearFormat& mine = format(stage, index);
  const LinearSite& linear = model_.stages()[stage].linears[index];
  if (linear.previous < 0 || !mine.quantized() || mine.smoothing != Smoothing::kAwq) return false;
  if (mine.pre_quant_scale != PreQuantScale::kNone) return false;
  const auto previous = static_cast<size_t>(linear.previous);
  const LinearSite& before = model_.stages()[stage].linears[previous];
  return mine.codec->name().starts_with("nvfp4") && format(stage, previous).quantized() &&
         before.out == linear.in && headers_.unsound.count(before.name) == 0;
}

// F32 [in]: what the norm's output was multiplied by.
at::Tensor SourceComparison::norm_ratio(size_t stage, const NormSite& norm) const {
  const std::vector<TensorNeed>& needs = model_.stages()[stage].tensors;
  const auto need = std::find_if(needs.begin(), needs.end(),
                                 [&](const TensorNeed& one) { return one.name == norm.weight; });
  const StoredTensor& original = source_.stages()[stage][static_cast<size_t>(need - needs.begin())];
  const LoadedStage before({original}, source_.checkpoint(), at::kCPU, pool_);
  const LoadedStage after({locate_plain(checkpoint_, *need)}, checkpoint_, at::kCPU, pool_);
  const float one = norm.adds_one ? 1.0f : 0.0f;
  const at::Tensor old_K = before.tensor(norm.weight).to(at::kFloat) + one;
  const at::Tensor new_K = after.tensor(norm.weight).to(at::kFloat) + one;
  const at::Tensor ratio_K = new_K / old_K;
  // A norm of zero says nothing of the scale.
  return at::where(at::logical_and(at::isfinite(ratio_K), ratio_K != 0), ratio_K,
                   at::ones_like(ratio_K));
}

// F32 [out]: the factor of each row that explains what is stored best.
at::Tensor SourceComparison::row_scale(size_t stage, size_t index,
                                       const PackedLinear& packed) const {
  const at::Tensor w_NK = unfolded(stage, index, packed);
  const at::Tensor q_NK = format(stage, index).codec->unpack(packed, at::kFloat, &pool_);
  const at::Tensor scale_N = (q_NK * w_NK).sum(1) / (w_NK * w_NK).sum(1);
  return at::where(at::logical_and(at::isfinite(scale_N), scale_N != 0), scale_N,
                   at::ones_like(scale_N));
}

// The source's weight with the scale of its own input, but without that of the linear behind it.
at::Tensor SourceComparison::unfolded(size_t stage, size_t index,
                                      const PackedLinear& packed) const {
  const StageSpec& spec = model_.stages()[stage];
  at::Tensor w_NK = source_weight(stage, index);
  const auto stored = packed.find("pre_quant_scale");
  if (stored != packed.end()) w_NK = w_NK / stored->second.to(at::kFloat);
  for (const NormSite& norm : spec.norms) {
    const bool mine = norm.fused_group == spec.linears[index].fused_group;
    if (mine && folds_into_norm(stage, norm)) w_NK = w_NK / norm_ratio(stage, norm);
  }
  if (folds_into_previous(stage, index)) {
    const auto previous = static_cast<size_t>(spec.linears[index].previous);
    w_NK = w_NK / row_scale(stage, previous, this->packed(stage, previous));
  }
  return w_NK;
}

// F32 [out, in]: what the packed weight and its low-rank branch stand for.
at::Tensor SourceComparison::wanted(size_t stage, size_t index, const PackedLinear& packed) const {
  at::Tensor w_NK = unfolded(stage, index, packed);
  const std::vector<LinearSite>& linears = model_.stages()[stage].linears;
  for (size_t i = 0; i < linears.size(); ++i) {
    const bool behind = linears[i].previous == static_cast<int>(index);
    if (!behind || !folds_into_previous(stage, i)) continue;
    w_NK = w_NK * row_scale(stage, index, packed).unsqueeze(1);
    break;
  }
  return w_NK.contiguous();
}

Json SourceComparison::db(size_t stage, size_t index, const PackedLinear& packed,
                          const at::Tensor& wanted_NK) const {
  const LinearFormat& mine = format(stage, index);
  if (mine.low_rank == 0) return sqnr_db(wanted_NK, *mine.codec, packed, pool_);
  const at::Tensor branch_NK =
      at::matmul(packed.at(kLowRankB).to(at::kFloat), packed.at(kLowRankA).to(at::kFloat));
  const at::Tensor noise_NK =
      wanted_NK - branch_NK - mine.codec->unpack(packed, at::kFloat, &pool_);
  const double signal = wanted_NK.square().sum(at::kDouble).item<double>();
  const double noise = noise_NK.square().sum(at::kDouble).item<double>();
  if (signal == 0.0 || noise == 0.0) return nullptr;
  return std::round(1000.0 * 10.0 * std::log10(signal / noise)) / 1000.0;
}

SourceComparison::Linear SourceComparison::linear(size_t stage, size_t index,
                                                  const PackedLinear& packed) const {
  const Codec& codec = *format(stage, index).codec;
  const at::Tensor w_NK = wanted(stage, index, packed);
  const Json db = this->db(stage, index, packed, w_NK);
  Linear result;
  if (!db.is_null()) result.db = db.get<double>();
  if (db.is_null() && at::count_nonzero(w_NK).item<int64_t>() == 0) {
    const at::Tensor q_NK = codec.unpack(packed, at::kFloat, &pool_);
    if (at::count_nonzero(q_NK).item<int64_t>() == 0) return result;
    result.finding = {"low-sqnr", {}, {}, "zeros, as in the source", "other values"};
  } else if (result.db && !(*result.db >= least_db(codec))) {
    result.finding = diagnose(stage, index, packed, w_NK, *result.db);
  }
  return result;
}

// What would explain a weight that is not the source's.
Finding SourceComparison::diagnose(size_t stage, size_t index, const PackedLinear& packed,
                                   const at::Tensor& wanted_NK, double db) const {
  const Codec& codec = *format(stage, index).codec;
  const double least = least_db(codec);
  const std::string expected = concat("the source's weight, to at least ", least, " dB");
  if (codec.name().find('4') != std::string::npos && packed.at("weight").dtype() == at::kByte) {
    PackedLinear swapped = packed;
    swapped["weight"] = swapped_nibbles(packed.at("weight"));
    const Json other = this->db(stage, index, swapped, wanted_NK);
    if (!other.is_null() && other.get<double>() >= least) {
      return {"nibble-order",
              {},
              {},
              expected,
              concat(db, " dB, but ", other.get<double>(), " dB with the nibbles of each byte ",
                     "exchanged")};
    }
  }
  const std::string twin_name = twin(stage, index, codec.unpack(packed, at::kFloat, &pool_));
  if (twin_name.empty()) return {"low-sqnr", {}, {}, expected, concat(db, " dB")};
  return {"swapped-tensors", {}, {}, expected, concat("the weight of '", twin_name, "'")};
}

// A linear of the same size whose weight in the source this one is; empty: none.
std::string SourceComparison::twin(size_t stage, size_t index, const at::Tensor& q_NK) const {
  constexpr int64_t kRows = 64;
  constexpr size_t kMostTried = 256;
  constexpr float kAlike = 0.9f;
  const at::Tensor q = q_NK.slice(0, 0, kRows);
  const LinearSite& mine = model_.stages()[stage].linears[index];
  size_t tried = 0;
  // Its own stage first.
  for (size_t step = 0; step < model_.stages().size(); ++step) {
    const size_t s = (stage + step) % model_.stages().size();
    const std::vector<LinearSite>& linears = model_.stages()[s].linears;
    for (size_t i = 0; i < linears.size(); ++i) {
      const bool same = s == stage && i == index;
      if (same || linears[i].out != mine.out || linears[i].in != mine.in) continue;
      if (++tried > kMostTried) return {};
      const at::Tensor w = source_weight(s, i).slice(0, 0, kRows);
      const float alike = ((q * w).sum() / (q.norm() * w.norm())).item<float>();
      if (alike > kAlike) return linears[i].name;
    }
  }
  return {};
}

// Names of copied tensors of a stage that took over a scale.
std::set<std::string> SourceComparison::may_change(size_t stage) const {
  const StageSpec& spec = model_.stages()[stage];
  std::set<std::string> names;
  for (const NormSite& norm : spec.norms) {
    if (!folds_into_norm(stage, norm)) continue;
    names.insert({norm.weight, norm.bias});
  }
  for (size_t i = 0; i < spec.linears.size(); ++i) {
    if (!folds_into_previous(stage, i)) continue;
    names.insert(spec.linears[static_cast<size_t>(spec.linears[i].previous)].bias);
  }
  return names;
}

std::optional<Finding> SourceComparison::copy(size_t stage, size_t tensor,
                                              const at::Tensor& stored) const {
  const TensorNeed& need = model_.stages()[stage].tensors[tensor];
  const StoredTensor& original = source_.stages()[stage][tensor];
  const LoadedStage loaded({original}, source_.checkpoint(), at::kCPU, pool_);
  const at::Tensor expected = loaded.tensor(need.name);
  if (same_contents(stored, expected) || may_change(stage).count(need.name) > 0) {
    return std::nullopt;
  }
  return changed(stored, expected);
}

std::optional<Finding> SourceComparison::extra(const std::string& name,
                                               const at::Tensor& stored) const {
  const auto original = std::find_if(source_.extra().begin(), source_.extra().end(),
                                     [&](const StoredTensor& one) { return one.name == name; });
  if (original == source_.extra().end()) return std::nullopt;
  const LoadedStage loaded({*original}, source_.checkpoint(), at::kCPU, pool_);
  const at::Tensor expected = loaded.tensor(name);
  if (same_contents(stored, expected)) return std::nullopt;
  return changed(stored, expected);
}

}  // namespace halftone
