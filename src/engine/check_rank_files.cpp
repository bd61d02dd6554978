#include "engine/check_rank_files.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <optional>
#include <string_view>

#include "core/log.h"
#include "core/sha256.h"
#include "dist/agreement.h"
#include "engine/check_values.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

constexpr std::array<std::string_view, 6> kScales{
    "weights_scaling_factor", "weights_scaling_factor_2", "activation_scaling_factor",
    "per_channel_scale",      "prequant_scaling_factor",  "cache_scaling_factor"};

bool is_scale(const std::string& name) {
  return std::any_of(kScales.begin(), kScales.end(),
                     [&](std::string_view suffix) { return name.ends_with(suffix); });
}

at::Tensor read(const SafetensorsFile& file, const TensorInfo& info) {
  const bool packed = !is_floating(info.dtype) || info.dtype == DType::kF8E4M3;
  const at::ScalarType type = packed ? at::kByte : scalar_type_of(info.dtype);
  at::Tensor tensor = at::empty(packed ? std::vector<int64_t>{info.bytes} : info.shape, type);
  file.read(info, 0, info.bytes, tensor.mutable_data_ptr());
  return tensor;
}

std::optional<Finding> check_tensor(const SafetensorsFile& file, const TensorInfo& info) {
  if (is_scale(info.name)) {
    const bool e4m3 = info.dtype == DType::kF8E4M3;
    return check_scales(read(file, info), e4m3 ? ScaleKind::kE4M3 : ScaleKind::kFloat);
  }
  if (!is_floating(info.dtype)) return std::nullopt;
  return check_finite(read(file, info), info.dtype);
}

// One value for all ranks of a pipeline stage: scalars, norms, routers.
bool is_replicated(const std::string& name, const TensorInfo& info) {
  return name.ends_with("layernorm.weight") || name.ends_with("layernorm.bias") ||
         name.find(".ln_f.") != std::string::npos || name.ends_with("router.weight") ||
         (is_scale(name) && info.shape == std::vector<int64_t>{1});
}

class RankFileCheck {
 public:
  RankFileCheck(const ReshardPlan& plan, const fs::path& folder,
                const std::map<std::string, std::string>& sums)
      : plan_(plan), folder_(folder), sums_(sums) {}

  Findings check(size_t index, ThreadPool& pool) const {
    const std::string& name = plan_.files[index].name;
    const SafetensorsFile file(folder_ / name);
    Findings findings;
    if (const auto sum = sums_.find(name); sum != sums_.end()) {
      const std::string found = sha256_of_file(folder_ / name);
      if (found != sum->second) {
        findings.push_back({"changed-file", {}, name, "SHA-256 " + sum->second, found});
      }
    }
    std::vector<const TensorInfo*> tensors;
    for (const auto& [tensor, info] : file.tensors()) tensors.push_back(&info);
    std::vector<std::optional<Finding>> found(tensors.size());
    pool.for_each(std::ssize(tensors), [&](int64_t i) {
      const auto t = static_cast<size_t>(i);
      found[t] = check_tensor(file, *tensors[t]);
    });
    for (size_t t = 0; t < tensors.size(); ++t) {
      if (!found[t]) continue;
      found[t]->tensor = tensors[t]->name;
      found[t]->file = name;
      findings.push_back(*found[t]);
    }
    check_replicas(index, file, findings);
    return findings;
  }

 private:
  // Against the first rank of the pipeline stage.
  void check_replicas(size_t index, const SafetensorsFile& file, Findings& findings) const {
    const size_t first = index - index % plan_.group_files;
    if (first == index) return;
    const SafetensorsFile other(folder_ / plan_.files[first].name);
    for (const auto& [name, info] : file.tensors()) {
      if (!is_replicated(name, info)) continue;
      if (file.read_all(info) == other.read_all(other.tensors().at(name))) continue;
      findings.push_back({"ranks-differ", name, plan_.files[index].name,
                          concat("what ", plan_.files[first].name, " holds"), "other bytes"});
    }
  }

  const ReshardPlan& plan_;
  const fs::path& folder_;
  const std::map<std::string, std::string>& sums_;
};

}  // namespace

Findings check_rank_values(const ReshardPlan& plan, const fs::path& folder,
                           const std::map<std::string, std::string>& sums, const Cluster& cluster) {
  const RankFileCheck check(plan, folder, sums);
  Communicator& ranks = cluster.control;
  Json mine = Json::array();
  for (size_t f = static_cast<size_t>(ranks.rank()); f < plan.files.size();
       f += static_cast<size_t>(ranks.size())) {
    for (const Finding& finding : check.check(f, cluster.pool)) mine.push_back(to_json(finding));
  }
  Findings findings;
  for (const std::string& text : gather_texts(ranks, mine.dump())) {
    for (const Json& one : Json::parse(text)) findings.push_back(finding_of(one));
  }
  const auto key = [](const Finding& finding) { return std::tie(finding.file, finding.tensor); };
  std::stable_sort(findings.begin(), findings.end(),
                   [&](const Finding& a, const Finding& b) { return key(a) < key(b); });
  return findings;
}

}  // namespace halftone
