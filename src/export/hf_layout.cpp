#include "export/hf_layout.h"

#include <algorithm>
#include <cstdio>
#include <set>

#include "core/error.h"
#include "core/log.h"
#include "export/hf_names.h"
#include "kernels/check.h"

namespace halftone {
namespace {

// Collects the output's tensors in module order and what became of the source's.
class Planner {
 public:
  Planner(const SourceLayout& source, const Model& model, const TargetPlan& target)
      : source_(source), model_(model), target_(target) {}

  // Units of tensors that one rank writes, or ranks of one host, and that therefore stay in one
  // file.
  std::vector<std::vector<TensorSpec>> collect(Accounting& accounting) {
    for (size_t s = 0; s < model_.stages().size(); ++s) collect_stage(s, accounting);
    drop_tied(accounting);
    for (const auto& [name, reason] : source_.checkpoint().dropped()) {
      accounting.dropped.push_back({name, reason});
    }
    for (const StoredTensor& stored : source_.extra()) {
      if (seen_.count(stored.pieces.front().tensor) > 0) continue;
      account(stored, accounting, accounting.copied);
      add_unit({{stored.name, stored.dtype, stored.shape}});
      accounting.extra.push_back(stored.name);
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
    for (size_t t = 0; t < stage.tensors.size(); ++t) {
      const TensorNeed& need = stage.tensors[t];
      const StoredTensor& stored = source_.stages()[index][t];
      const auto linear = linear_of_weight.find(need.name);
      if (linear == linear_of_weight.end()) {
        add_unit({hf_part(need, stored.dtype).whole});
        account(stored, accounting, accounting.copied);
        continue;
      }
      std::vector<TensorSpec> unit;
      for (const HfPart& part :
           hf_parts(stage.linears[linear->second], plan.linears[linear->second], stage.experts,
                    source_.dtype())) {
        unit.push_back(part.whole);
      }
      add_unit(std::move(unit));
      account(stored, accounting, accounting.quantized);
    }
    for (size_t i = 0; i < stage.attentions.size(); ++i) {
      add_unit(cache_tensors(stage.attentions[i], plan.kv[i], source_.dtype()));
    }
  }

  // Tensors that were added before are a tied one's or other experts' of the same stack.
  void add_unit(std::vector<TensorSpec> unit) {
    if (unit.empty() || !outputs_.insert(unit.front().name).second) return;
    units_.push_back(std::move(unit));
  }

  void account(const StoredTensor& stored, Accounting& accounting, std::vector<std::string>& fate) {
    const std::string& main = stored.pieces.front().tensor;
    if (seen_.insert(main).second) fate.push_back(main);
    std::vector<std::string> others = stored.companions;
    for (size_t i = 1; i < stored.pieces.size(); ++i) others.push_back(stored.pieces[i].tensor);
    for (const std::string& other : others) {
      if (!seen_.insert(other).second) continue;
      accounting.dropped.push_back({other, "belongs to '" + main + "', which is dequantized"});
    }
  }

  void drop_tied(Accounting& accounting) {
    const Checkpoint& checkpoint = source_.checkpoint();
    for (const auto& [alias, canonical] : model_.tied_tensors()) {
      if (!checkpoint.has(alias) || seen_.count(alias) > 0) continue;
      if (!same_bytes(checkpoint, alias, canonical)) {
        log_warn("'", alias, "' is tied to '", canonical,
                 "' in config.json, but the two differ: it is copied as an extra tensor");
        continue;
      }
      seen_.insert(alias);
      accounting.dropped.push_back({alias, "tied to '" + canonical + "'"});
    }
  }

  const SourceLayout& source_;
  const Model& model_;
  const TargetPlan& target_;
  std::set<std::string> seen_;     // names in the source
  std::set<std::string> outputs_;  // the first name of each unit
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

const TensorInfo& HfLayout::info(const std::string& name) const {
  const auto file = file_of.find(name);
  check(file != file_of.end(), "a tensor is written only if it was planned: " + name);
  return files[file->second].layout.tensors.at(name);
}

std::string key_scale_name(const std::string& attention, bool library) {
  return attention + (library ? ".k_scale" : ".k_proj.k_scale");
}
std::string value_scale_name(const std::string& attention, bool library) {
  return attention + (library ? ".v_scale" : ".v_proj.v_scale");
}

std::string key_bias_name(const std::string& attention) {
  return attention + ".k_proj.k_bias";
}
std::string value_bias_name(const std::string& attention) {
  return attention + ".v_proj.v_bias";
}

std::vector<TensorSpec> cache_tensors(const AttentionSite& attention, KvFormat format,
                                      DType model_dtype, bool library) {
  if (!has_scales(format)) return {};
  std::vector<int64_t> shape;
  if (library) shape.push_back(1);
  std::vector<TensorSpec> specs{{key_scale_name(attention.name, library), DType::kF32, shape},
                                {value_scale_name(attention.name, library), DType::kF32, shape}};
  if (!has_bias(format)) return specs;
  specs.push_back(
      {key_bias_name(attention.name), model_dtype, {1, attention.kv_heads, 1, attention.key_dim}});
  specs.push_back({value_bias_name(attention.name),
                   model_dtype,
                   {1, attention.kv_heads, 1, attention.value_dim}});
  return specs;
}

HfLayout lay_out(const std::vector<std::vector<TensorSpec>>& units, int64_t max_shard_bytes) {
  HfLayout layout;
  const auto shards = split_into_shards(units, max_shard_bytes);
  std::set<std::string> names;
  for (size_t i = 0; i < shards.size(); ++i) {
    for (const TensorSpec& spec : shards[i]) {
      if (!names.insert(spec.name).second) {
        throw InputError(
            concat("the source already holds a tensor called '", spec.name,
                   "', which the quantized checkpoint needs: is it quantized already?"));
      }
      layout.file_of[spec.name] = i;
      layout.total_bytes += spec.bytes();
      layout.total_elements += spec.bytes() / size_of(spec.dtype);
    }
    layout.files.push_back({shard_name(i, shards.size()), plan_safetensors(shards[i])});
  }
  return layout;
}

HfPlan plan_hf_export(const SourceLayout& source, const Model& model, const TargetPlan& target,
                      int64_t max_shard_bytes) {
  HfPlan plan;
  const auto units = Planner(source, model, target).collect(plan.accounting);
  plan.layout = lay_out(units, max_shard_bytes);
  return plan;
}

}  // namespace halftone
