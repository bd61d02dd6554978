#include "export/hf_layout.h"

#include <algorithm>
#include <cstdio>
#include <set>

#include "core/error.h"
#include "core/log.h"
#include "kernels/check.h"

namespace halftone {
namespace {

TensorSpec spec_of(const TensorInfo& info) {
  return {info.name, info.dtype, info.shape};
}

bool same_bytes(const Checkpoint& source, const std::string& a, const std::string& b) {
  const TensorInfo& info_a = source.info(a);
  const TensorInfo& info_b = source.info(b);
  if (info_a.dtype != info_b.dtype || info_a.shape != info_b.shape) return false;
  constexpr int64_t kPiece = 4 << 20;
  std::vector<char> piece_a(kPiece);
  std::vector<char> piece_b(kPiece);
  for (int64_t begin = 0; begin < info_a.bytes; begin += kPiece) {
    const int64_t bytes = std::min(kPiece, info_a.bytes - begin);
    source.read(a, begin, bytes, piece_a.data());
    source.read(b, begin, bytes, piece_b.data());
    if (!std::equal(piece_a.begin(), piece_a.begin() + bytes, piece_b.begin())) return false;
  }
  return true;
}

// Collects the output's tensors in module order and what became of the source's.
class Planner {
 public:
  Planner(const Checkpoint& source, const Model& model, const TargetPlan& target)
      : source_(source), model_(model), target_(target), dtype_(model_dtype(source)) {}

  // Units of tensors that one rank writes, and that therefore stay in one file.
  std::vector<std::vector<TensorSpec>> collect(Accounting& accounting) {
    for (size_t s = 0; s < model_.stages().size(); ++s) collect_stage(s, accounting);
    drop_tied(accounting);
    for (const std::string& name : source_.names()) {
      if (!seen_.insert(name).second) continue;
      units_.push_back({spec_of(source_.info(name))});
      accounting.copied.push_back(name);
      accounting.extra.push_back(name);
    }
    return std::move(units_);
  }

 private:
  void collect_stage(size_t index, Accounting& accounting) {
    const StageSpec& stage = model_.stages()[index];
    const StagePlan& plan = target_.stages[index];
    std::map<std::string, size_t> linear_of_weight;
    for (size_t i = 0; i < stage.linears.size(); ++i) {
      if (plan.linears[i].quantized()) linear_of_weight[stage.linears[i].weight] = i;
    }
    for (const TensorNeed& need : stage.tensors) {
      if (!seen_.insert(need.name).second) continue;
      const auto linear = linear_of_weight.find(need.name);
      if (linear == linear_of_weight.end()) {
        units_.push_back({spec_of(source_.info(need.name))});
        accounting.copied.push_back(need.name);
        continue;
      }
      const size_t i = linear->second;
      const LinearSite& site = stage.linears[i];
      units_.push_back(stored_tensors(plan.linears[i], site.out, site.in, dtype_));
      for (TensorSpec& spec : units_.back()) spec.name = site.name + "." + spec.name;
      accounting.quantized.push_back(need.name);
    }
    for (size_t i = 0; i < stage.attentions.size(); ++i) {
      const auto tensors = cache_tensors(stage.attentions[i], plan.kv[i], dtype_);
      if (!tensors.empty()) units_.push_back(tensors);
    }
  }

  void drop_tied(Accounting& accounting) {
    for (const auto& [alias, canonical] : model_.tied_tensors()) {
      if (!source_.has(alias) || seen_.count(alias) > 0) continue;
      if (!same_bytes(source_, alias, canonical)) {
        log_warn("'", alias, "' is tied to '", canonical,
                 "' in config.json, but the two differ: it is copied as an extra tensor");
        continue;
      }
      seen_.insert(alias);
      accounting.dropped.push_back({alias, "tied to '" + canonical + "'"});
    }
  }

  const Checkpoint& source_;
  const Model& model_;
  const TargetPlan& target_;
  DType dtype_;
  std::set<std::string> seen_;
  std::vector<std::vector<TensorSpec>> units_;
};

std::string shard_name(size_t index, size_t count) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

// Greedy in module order; a unit over the limit has a shard of its own.
std::vector<std::vector<TensorSpec>> split_into_shards(
    const std::vector<std::vector<TensorSpec>>& units, int64_t limit) {
  std::vector<std::vector<TensorSpec>> shards;
  int64_t filled = 0;
  for (const std::vector<TensorSpec>& unit : units) {
    int64_t bytes = 0;
    for (const TensorSpec& spec : unit) bytes += spec.bytes();
    if (shards.empty() || filled + bytes > limit) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().insert(shards.back().end(), unit.begin(), unit.end());
    filled += bytes;
  }
  return shards;
}

}  // namespace

const TensorInfo& HfLayout::info(const std::string& name) const {
  const auto file = file_of.find(name);
  check(file != file_of.end(), "a tensor is written only if it was planned: " + name);
  return files[file->second].layout.tensors.at(name);
}

std::string key_scale_name(const std::string& attention) {
  return attention + ".k_proj.k_scale";
}
std::string value_scale_name(const std::string& attention) {
  return attention + ".v_proj.v_scale";
}

std::string key_bias_name(const std::string& attention) {
  return attention + ".k_proj.k_bias";
}
std::string value_bias_name(const std::string& attention) {
  return attention + ".v_proj.v_bias";
}

std::vector<TensorSpec> cache_tensors(const AttentionSite& attention, KvFormat format,
                                      DType model_dtype) {
  if (!has_scales(format)) return {};
  std::vector<TensorSpec> specs{{key_scale_name(attention.name), DType::kF32, {}},
                                {value_scale_name(attention.name), DType::kF32, {}}};
  if (!has_bias(format)) return specs;
  specs.push_back(
      {key_bias_name(attention.name), model_dtype, {1, attention.kv_heads, 1, attention.key_dim}});
  specs.push_back({value_bias_name(attention.name),
                   model_dtype,
                   {1, attention.kv_heads, 1, attention.value_dim}});
  return specs;
}

HfPlan plan_hf_export(const Checkpoint& source, const Model& model, const TargetPlan& target,
                      int64_t max_shard_bytes) {
  HfPlan plan;
  const auto shards =
      split_into_shards(Planner(source, model, target).collect(plan.accounting), max_shard_bytes);
  std::set<std::string> names;
  for (size_t i = 0; i < shards.size(); ++i) {
    for (const TensorSpec& spec : shards[i]) {
      if (!names.insert(spec.name).second) {
        throw InputError(
            concat("the source already holds a tensor called '", spec.name,
                   "', which the quantized checkpoint needs: is it quantized already?"));
      }
      plan.layout.file_of[spec.name] = i;
      plan.layout.total_bytes += spec.bytes();
      plan.layout.total_elements += spec.bytes() / size_of(spec.dtype);
    }
    plan.layout.files.push_back({shard_name(i, shards.size()), plan_safetensors(shards[i])});
  }
  return plan;
}

}  // namespace halftone
