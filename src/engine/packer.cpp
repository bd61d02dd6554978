#include "engine/packer.h"

#include <ATen/ATen.h>

#include <memory>

#include "core/error.h"
#include "core/log.h"
#include "engine/dealt_pieces.h"
#include "engine/quantized_linears.h"
#include "engine/sqnr.h"
#include "formats/tensor_bridge.h"
#include "kernels/scale.h"

namespace halftone {

HeldBytes DeviceReader::bytes_of(const at::Tensor& tensor) {
  const auto source = std::make_shared<const at::Tensor>(tensor.contiguous());
  HeldBytes bytes{nullptr, static_cast<int64_t>(source->nbytes()), source};
  if (source->is_cpu()) {
    bytes.data = source->const_data_ptr();
    return bytes;
  }
  if (!staging_.defined()) {
    staging_ =
        at::empty({HeldBytes::kPieceBytes}, at::TensorOptions(at::kByte).pinned_memory(true));
  }
  bytes.fetch = [side = side_, staging = staging_, mark = side_.mark(),
                 all = source->reshape({-1}).view(at::kByte)](int64_t begin, int64_t count) {
    side.run(mark, [&] {
      staging.slice(0, 0, count).copy_(all.slice(0, begin, begin + count), /*non_blocking=*/true);
    });
    return staging.const_data_ptr();
  };
  return bytes;
}

StagePacker::StagePacker(const Target& target, HfWriter& writer, const Model& model,
                         DType model_dtype, Numerics numerics, const Cluster& cluster)
    : target_(target),
      writer_(writer),
      model_(model),
      model_dtype_(model_dtype),
      numerics_(numerics),
      cluster_(cluster),
      reader_(cluster.device) {
  for (size_t s = 0; s < model.stages().size(); ++s) {
    for (const TensorNeed& need : model.stages()[s].tensors) first_stage_of_.emplace(need.name, s);
  }
}

void StagePacker::write_tensor(const std::string& name, const at::Tensor& tensor) {
  writer_.write(name, reader_.bytes_of(tensor));
}

std::vector<bool> StagePacker::owned(const std::vector<Item>& items) const {
  std::vector<OutputPiece> pieces;
  for (const Item& item : items) {
    pieces.push_back({target_.hf.layout.file_of.at(item.output), item.bytes});
  }
  return deal_pieces(pieces, cluster_.world);
}

std::vector<StagePacker::Item> StagePacker::items_of(size_t stage_index,
                                                     const LoadedStage& loaded) const {
  const StageSpec& stage = model_.stages()[stage_index];
  const StagePlan& plan = target_.plan.stages[stage_index];
  const std::map<std::string, size_t> linear_of = quantized_linears(stage, plan);
  std::vector<Item> items;
  for (size_t t = 0; t < stage.tensors.size(); ++t) {
    const TensorNeed& need = stage.tensors[t];
    const StoredTensor& stored = loaded.stored(need.name);
    const auto linear = linear_of.find(need.name);
    if (linear != linear_of.end()) {
      const LinearSite& site = stage.linears[linear->second];
      const bool stacked = stacks_in_hf(site, plan.linears[linear->second]);
      items.push_back(
          {Item::Kind::kLinear, linear->second, stored.bytes, hf_name(site, stacked, "weight")});
    } else if (first_stage_of_.at(need.name) == stage_index) {
      items.push_back({Item::Kind::kCopy, t, stored.bytes, hf_part(need, stored.dtype).whole.name});
    }
  }
  for (size_t i = 0; i < stage.attentions.size(); ++i) {
    if (!has_scales(plan.kv[i])) continue;
    items.push_back({Item::Kind::kCacheScales, i, 0, key_scale_name(stage.attentions[i].name)});
  }
  return items;
}

bool StagePacker::is_in(const CompressedStep& compressed, const StageSpec& stage,
                        const Item& item) {
  switch (item.kind) {
    case Item::Kind::kCopy:
      return compressed.tensors.has(stage.tensors[item.index].name);
    case Item::Kind::kLinear:
      return compressed.tensors.has(stage.linears[item.index].name + ".weight");
    case Item::Kind::kCacheScales:
      return compressed.first;
  }
  return false;
}

void StagePacker::pack(size_t stage_index, const LoadedStage& loaded, const StageSolution& solution,
                       const CompressedStep* compressed) {
  const StageSpec& stage = model_.stages()[stage_index];
  const StagePlan& plan = target_.plan.stages[stage_index];
  const std::vector<Item> items = items_of(stage_index, loaded);
  const std::vector<bool> mine = owned(items);
  for (size_t i = 0; i < items.size(); ++i) {
    if (!mine[i]) continue;
    if (compressed != nullptr && !is_in(*compressed, stage, items[i])) continue;
    const size_t index = items[i].index;
    switch (items[i].kind) {
      case Item::Kind::kCopy:
        write_copy(stage.tensors[index], loaded, solution, compressed);
        break;
      case Item::Kind::kLinear:
        write_linear(stage.linears[index], plan.linears[index], stage.experts, loaded,
                     solution.linears[index], compressed);
        break;
      case Item::Kind::kCacheScales:
        write_cache(stage.attentions[index].name, solution.caches[index]);
        break;
    }
  }
}

// A norm or a bias may have taken over a scale; it keeps the dtype that it has in the source.
void StagePacker::write_copy(const TensorNeed& need, const LoadedStage& loaded,
                             const StageSolution& solution, const CompressedStep* compressed) {
  if (compressed != nullptr) {
    write_part(hf_part(need, loaded.stored(need.name).dtype),
               compressed->tensors.tensor(need.name));
    return;
  }
  const at::Tensor source = loaded.tensor(need.name);
  const auto changed = solution.tensors.find(need.name);
  // The next stage takes the place of this one's tensors before they are written.
  write_part(hf_part(need, loaded.stored(need.name).dtype),
             changed == solution.tensors.end() ? source.clone()
                                               : changed->second.to(source.scalar_type()));
}

void StagePacker::write_part(const HfPart& part, const at::Tensor& tensor) {
  if (!part.writes) return;
  writer_.write(part.whole.name, reader_.bytes_of(part.input_major ? tensor.t() : tensor),
                part.index, part.count);
}

void StagePacker::write_cache(const std::string& attention, const CacheSolution& cache) {
  const auto scale = [&](float amax) {
    // A zero scale would divide by zero in the engine; any other says the same of zeros.
    return scalar_tensor(amax > 0.0f ? divide_by_constant(amax, kMaxE4M3, numerics_) : 1.0f);
  };
  if (cache.key.amax == 0.0f || cache.value.amax == 0.0f) {
    records_[attention] = {{"format", "KV cache"}, {"fallback", "keys or values are all zero"}};
  }
  write_tensor(key_scale_name(attention), scale(cache.key.amax));
  write_tensor(value_scale_name(attention), scale(cache.value.amax));
  if (!cache.key.bias_HD.defined()) return;
  const at::ScalarType dtype = scalar_type_of(model_dtype_);
  write_tensor(key_bias_name(attention), cache.key.bias_HD.to(dtype));
  write_tensor(value_bias_name(attention), cache.value.bias_HD.to(dtype));
}

void StagePacker::write_linear(const LinearSite& linear, const LinearFormat& format,
                               int64_t experts, const LoadedStage& loaded,
                               const LinearSolution& solution, const CompressedStep* compressed) {
  const at::Tensor source_NK = loaded.tensor(linear.weight).to(scalar_type_of(model_dtype_));
  const at::Tensor w_NK = edited_weight(solution, source_NK);
  const PackedLinear packed = compressed != nullptr
                                  ? stored_linear(compressed->tensors, linear, format, model_dtype_)
                                  : pack_linear(format, solution, w_NK, numerics_, &cluster_.pool);
  for (const HfPart& part : hf_parts(linear, format, experts, model_dtype_)) {
    write_part(part, packed.at(part.suffix));
  }
  Json record{{"format", format_name(format)}, {"weight_amax", solution.weight_amax}};
  if (format.input.quantized()) record["input"] = name_of(format.input.kind);
  if (solution.input_amax) record["input_amax"] = *solution.input_amax;
  // GPTQ's weight lies on the grid: its noise is what it changed.
  const bool replaced =
      !solution.edits.empty() && solution.edits.back().kind == WeightEdit::Kind::kReplace;
  const at::Tensor& wanted_NK = replaced ? source_NK : w_NK;
  record["sqnr_db"] = sqnr_db(wanted_NK, *format.codec, packed, cluster_.pool);
  if (solution.weight_amax == 0.0f) record["fallback"] = "the weight is all zero";
  record.update(solution.record);
  records_[linear.name] = record;
}

void StagePacker::copy_extra(const SourceLayout& source) {
  std::map<std::string, const StoredTensor*> by_name;
  for (const StoredTensor& stored : source.extra()) by_name[stored.name] = &stored;
  std::vector<Item> items;
  for (const std::string& name : target_.hf.accounting.extra) {
    items.push_back({Item::Kind::kCopy, 0, by_name.at(name)->bytes, name});
  }
  const std::vector<bool> mine = owned(items);
  for (size_t i = 0; i < items.size(); ++i) {
    if (!mine[i]) continue;
    const std::string& name = items[i].output;
    const LoadedStage loaded({*by_name.at(name)}, source.checkpoint(), at::kCPU, cluster_.pool);
    write_tensor(name, loaded.tensor(name));
  }
}

}  // namespace halftone
