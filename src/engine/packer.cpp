#include "engine/packer.h"

#include <ATen/ATen.h>

#include <cstring>

#include "core/error.h"
#include "core/log.h"
#include "dist/partition.h"
#include "dist/reductions.h"
#include "engine/sqnr.h"
#include "formats/tensor_bridge.h"
#include "kernels/scale.h"

namespace halftone {
namespace {

std::vector<char> bytes_of(const at::Tensor& tensor) {
  const at::Tensor host = tensor.cpu().contiguous();
  std::vector<char> bytes(host.nbytes());
  if (!bytes.empty()) std::memcpy(bytes.data(), host.const_data_ptr(), bytes.size());
  return bytes;
}

}  // namespace

StagePacker::StagePacker(const Target& target, HfWriter& writer, const Model& model,
                         DType model_dtype, Numerics numerics, const Cluster& cluster)
    : target_(target),
      writer_(writer),
      model_(model),
      model_dtype_(model_dtype),
      numerics_(numerics),
      cluster_(cluster) {
  for (size_t s = 0; s < model.stages().size(); ++s) {
    for (const TensorNeed& need : model.stages()[s].tensors) first_stage_of_.emplace(need.name, s);
  }
}

void StagePacker::write_tensor(const std::string& name, const at::Tensor& tensor) {
  writer_.write(name, bytes_of(tensor));
}

std::vector<bool> StagePacker::owned(const std::vector<Item>& items) const {
  const World& world = cluster_.world;
  const HfLayout& layout = target_.hf.layout;
  std::vector<bool> mine(items.size(), false);
  for (int node = 0; node < world.nodes(); ++node) {
    std::vector<int> ranks;
    for (int rank = 0; rank < world.size(); ++rank) {
      if (world.node_of()[static_cast<size_t>(rank)] == node) ranks.push_back(rank);
    }
    std::vector<size_t> of_node;
    std::vector<int64_t> costs;
    for (size_t i = 0; i < items.size(); ++i) {
      const size_t file = layout.file_of.at(items[i].output);
      if (static_cast<int>(file % static_cast<size_t>(world.nodes())) != node) continue;
      of_node.push_back(i);
      costs.push_back(items[i].bytes);
    }
    const std::vector<int> dealt = deal_by_cost(costs, static_cast<int>(ranks.size()));
    for (size_t i = 0; i < of_node.size(); ++i) {
      mine[of_node[i]] = ranks[static_cast<size_t>(dealt[i])] == world.rank();
    }
  }
  return mine;
}

std::vector<StagePacker::Item> StagePacker::items_of(size_t stage_index,
                                                     const LoadedStage& loaded) const {
  const StageSpec& stage = model_.stages()[stage_index];
  const StagePlan& plan = target_.plan.stages[stage_index];
  std::map<std::string, size_t> linear_of_weight;
  for (size_t i = 0; i < stage.linears.size(); ++i) {
    if (plan.codecs[i] != nullptr) linear_of_weight[stage.linears[i].weight] = i;
  }
  std::vector<Item> items;
  for (size_t e = 0; e < loaded.image().entries.size(); ++e) {
    const StageImage::Entry& entry = loaded.image().entries[e];
    const auto linear = linear_of_weight.find(entry.name);
    if (linear != linear_of_weight.end()) {
      items.push_back({Item::Kind::kLinear, linear->second, entry.bytes,
                       stage.linears[linear->second].name + ".weight"});
    } else if (first_stage_of_.at(entry.name) == stage_index) {
      items.push_back({Item::Kind::kCopy, e, entry.bytes, entry.name});
    }
  }
  for (size_t i = 0; i < stage.attentions.size(); ++i) {
    if (!has_scales(plan.kv[i])) continue;
    items.push_back({Item::Kind::kCacheScales, i, 0, key_scale_name(stage.attentions[i].name)});
  }
  return items;
}

void StagePacker::pack(size_t stage_index, const LoadedStage& loaded,
                       const std::vector<LinearScales>& scales, const StageStatistics& statistics) {
  const StageSpec& stage = model_.stages()[stage_index];
  const StagePlan& plan = target_.plan.stages[stage_index];
  const std::vector<Item> items = items_of(stage_index, loaded);
  const std::vector<bool> mine = owned(items);
  for (size_t i = 0; i < items.size(); ++i) {
    if (!mine[i]) continue;
    const size_t index = items[i].index;
    switch (items[i].kind) {
      case Item::Kind::kCopy:
        write_tensor(items[i].output, loaded.tensor(items[i].output));
        break;
      case Item::Kind::kLinear:
        pack_linear(stage, plan, index, loaded, scales[index]);
        break;
      case Item::Kind::kCacheScales:
        write_cache_scales(stage.attentions[index].name, statistics.key_amax[index],
                           statistics.value_amax[index]);
        break;
    }
  }
}

void StagePacker::write_cache_scales(const std::string& attention, float key_amax,
                                     float value_amax) {
  if (key_amax == MaxBucket::kAbsent || value_amax == MaxBucket::kAbsent) {
    throw InputError(
        concat("'", attention, "' saw no token in calibration: give more --calib data"));
  }
  const auto scale = [&](float amax) {
    // A zero scale would divide by zero in the engine; any other says the same of zeros.
    return scalar_tensor(amax > 0.0f ? divide_by_constant(amax, kMaxE4M3, numerics_) : 1.0f);
  };
  if (key_amax == 0.0f || value_amax == 0.0f) {
    records_[attention] = {{"format", "KV cache"}, {"fallback", "keys or values are all zero"}};
  }
  write_tensor(key_scale_name(attention), scale(key_amax));
  write_tensor(value_scale_name(attention), scale(value_amax));
}

void StagePacker::pack_linear(const StageSpec& stage, const StagePlan& plan, size_t index,
                              const LoadedStage& loaded, const LinearScales& scales) {
  const LinearSite& linear = stage.linears[index];
  const Codec& codec = *plan.codecs[index];
  const at::Tensor w_NK = loaded.tensor(linear.weight).to(scalar_type_of(model_dtype_));
  const PackedLinear packed = codec.pack(w_NK, scales, numerics_, &cluster_.pool);
  for (const auto& [suffix, tensor] : packed) {
    write_tensor(linear.name + "." + suffix, tensor);
  }
  Json record{{"format", codec.name()}, {"weight_amax", scales.weight_amax}};
  if (scales.input_amax) record["input_amax"] = *scales.input_amax;
  record["sqnr_db"] =
      sqnr_db(w_NK, codec.unpack(packed, at::kFloat, &cluster_.pool), cluster_.pool);
  if (scales.weight_amax == 0.0f) record["fallback"] = "the weight is all zero";
  records_[linear.name] = record;
}

void StagePacker::copy_extra(const Checkpoint& checkpoint) {
  std::vector<Item> items;
  for (const std::string& name : target_.hf.accounting.extra) {
    items.push_back({Item::Kind::kCopy, 0, checkpoint.info(name).bytes, name});
  }
  const std::vector<bool> mine = owned(items);
  for (size_t i = 0; i < items.size(); ++i) {
    if (mine[i]) writer_.write(items[i].output, checkpoint.read_all(items[i].output));
  }
}

}  // namespace halftone
