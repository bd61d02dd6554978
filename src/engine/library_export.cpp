#include "engine/library_export.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/log.h"
#include "engine/dealt_pieces.h"
#include "engine/exported_formats.h"
#include "engine/quantized_linears.h"
#include "engine/stored_linear.h"
#include "engine/verify.h"
#include "engine/weight_source.h"
#include "export/hf_names.h"
#include "export/hf_writer.h"
#include "model/source_layout.h"

namespace halftone {
namespace {

constexpr int64_t kTogether = int64_t{64} << 20;

void require_unified(const Checkpoint& checkpoint) {
  if (is_quantized(checkpoint) && !is_library_layout(checkpoint)) return;
  throw InputError(concat("'", checkpoint.directory().string(),
                          "' is not a unified checkpoint that halftone wrote: give one, or the ",
                          "original with --store or halftone quantize"));
}

HeldBytes held(std::vector<char> bytes) {
  auto owner = std::make_shared<const std::vector<char>>(std::move(bytes));
  return {owner->data(), static_cast<int64_t>(owner->size()), owner};
}

HeldBytes held(const at::Tensor& tensor) {
  auto owner = std::make_shared<const at::Tensor>(tensor.contiguous());
  return {owner->const_data_ptr(), static_cast<int64_t>(owner->nbytes()), owner};
}

}  // namespace

std::vector<StagePlan> in_library(const LibraryTarget& library, std::vector<StagePlan> stages) {
  for (StagePlan& stage : stages) {
    for (LinearFormat& format : stage.linears) {
      if (format.quantized()) format = in_library(library, format, library.written_scales);
    }
    // Without a scale of its own a library reads an FP8 cache as one that was not calibrated.
    for (KvFormat& kv : stage.kv) {
      if (kv == KvFormat::kFp8Cast) kv = KvFormat::kFp8;
    }
  }
  return stages;
}

LibraryExport::LibraryExport(const LibraryTarget& library, const Checkpoint& unified,
                             const Model& model, int64_t max_shard_bytes)
    : library_(library), unified_(unified), model_(model), dtype_(model_dtype(unified)) {
  require_unified(unified);
  make_exported_source(unified, model);  // checks every tensor's dtype and shape
  stages_ = exported_formats(unified, model);
  check_library(library, model, stages_);
  stored_ = in_library(library, stages_);
  plan();
  std::vector<std::vector<TensorSpec>> tensors;
  for (const Unit& unit : units_) tensors.push_back(unit.tensors);
  layout_ = lay_out(tensors, max_shard_bytes);
  config_.quantization_config = library.config(quantized_modules(model, stored_, extra_), stored_);
}

void LibraryExport::add_copy(const std::string& name, std::set<std::string>& seen) {
  if (!seen.insert(name).second) return;
  const TensorInfo& info = unified_.info(name);
  units_.push_back({Unit::Kind::kCopy, 0, 0, {{name, info.dtype, info.shape}}, info.bytes});
}

// In module order, as the unified checkpoint has its tensors.
void LibraryExport::plan_stage(size_t index, std::set<std::string>& seen) {
  const StageSpec& stage = model_.stages()[index];
  const std::map<std::string, size_t> linear_of = quantized_linears(stage, stages_[index]);
  for (const TensorNeed& need : stage.tensors) {
    const auto found = linear_of.find(need.name);
    if (found == linear_of.end()) {
      add_copy(hf_part(need, dtype_).whole.name, seen);
      continue;
    }
    const size_t i = found->second;
    const LinearSite& linear = stage.linears[i];
    Unit unit{Unit::Kind::kLinear, index, i, {}, 0};
    for (const HfPart& part : hf_parts(linear, stages_[index].linears[i], stage.experts, dtype_)) {
      seen.insert(part.whole.name);
      unit.bytes += part.whole.bytes() / part.count;
    }
    for (const HfPart& part : hf_parts(linear, stored_[index].linears[i], stage.experts, dtype_)) {
      unit.tensors.push_back(part.whole);
    }
    units_.push_back(std::move(unit));
  }
  for (size_t i = 0; i < stage.attentions.size(); ++i) {
    const AttentionSite& attention = stage.attentions[i];
    for (const TensorSpec& spec : cache_tensors(attention, stages_[index].kv[i], dtype_)) {
      seen.insert(spec.name);
    }
    Unit unit{Unit::Kind::kCache, index, i, {}, 0};
    unit.tensors = cache_tensors(attention, stored_[index].kv[i], dtype_, /*library=*/true);
    if (!unit.tensors.empty()) units_.push_back(std::move(unit));
  }
}

void LibraryExport::plan() {
  std::set<std::string> seen;
  for (size_t s = 0; s < model_.stages().size(); ++s) plan_stage(s, seen);
  for (const std::string& name : unified_.names()) {
    if (seen.count(name) > 0) continue;
    add_copy(name, seen);
    extra_.push_back(units_.back().tensors.front());
  }
}

PackedLinear LibraryExport::convert_cache(const Unit& unit) const {
  const AttentionSite& attention = model_.stages()[unit.stage].attentions[unit.index];
  const auto scale = [&](const std::string& name) {
    at::Tensor value = at::ones({1}, at::kFloat);
    if (has_scales(stages_[unit.stage].kv[unit.index])) {
      unified_.read(name, 0, sizeof(float), value.mutable_data_ptr());
    }
    return value;
  };
  return {{key_scale_name(attention.name, true), scale(key_scale_name(attention.name))},
          {value_scale_name(attention.name, true), scale(value_scale_name(attention.name))}};
}

// By the names of the output's tensors.
PackedLinear LibraryExport::convert(const Unit& unit, ThreadPool& pool) const {
  if (unit.kind == Unit::Kind::kCache) return convert_cache(unit);
  const StageSpec& stage = model_.stages()[unit.stage];
  const LinearSite& linear = stage.linears[unit.index];
  const PackedLinear packed = read_packed(unified_, linear, stages_[unit.stage].linears[unit.index],
                                          stage.experts, dtype_, pool);
  const LinearFormat& format = stored_[unit.stage].linears[unit.index];
  PackedLinear tensors;
  for (auto& [suffix, tensor] : format.form->encode(linear.name, format, packed)) {
    tensors[hf_name(linear, false, suffix)] = tensor;
  }
  return tensors;
}

void LibraryExport::write(const fs::path& folder, const Cluster& cluster) const {
  std::vector<OutputPiece> pieces;
  for (const Unit& unit : units_) {
    pieces.push_back({layout_.file_of.at(unit.tensors.front().name), unit.bytes + 1});
  }
  const std::vector<bool> mine = deal_pieces(pieces, cluster.world);
  WriteQueue queue(kTogether, cluster.trace);
  HfWriter writer(folder, layout_, queue);
  writer.begin(cluster.control, /*resumed=*/false);
  std::vector<size_t> run;
  int64_t filled = 0;
  const auto finish_run = [&] {
    std::vector<PackedLinear> made(run.size());
    cluster.pool.for_each(static_cast<int64_t>(run.size()), [&](int64_t i) {
      const auto at = static_cast<size_t>(i);
      if (units_[run[at]].kind != Unit::Kind::kCopy)
        made[at] = convert(units_[run[at]], cluster.pool);
    });
    for (size_t i = 0; i < run.size(); ++i) {
      const Unit& unit = units_[run[i]];
      if (unit.kind == Unit::Kind::kCopy) {
        writer.write(unit.tensors.front().name, held(unified_.read_all(unit.tensors.front().name)));
      }
      for (const auto& [name, tensor] : made[i]) writer.write(name, held(tensor));
    }
    run.clear();
    filled = 0;
  };
  for (size_t i = 0; i < units_.size(); ++i) {
    if (!mine[i]) continue;
    run.push_back(i);
    filled += units_[i].bytes;
    if (filled >= kTogether) finish_run();
  }
  finish_run();
  writer.complete(cluster.control, unified_, config_);
  verify(folder, cluster);
}

// The cheap part of verify: every tensor accounted for, scales as they must be.
void LibraryExport::verify(const fs::path& folder, const Cluster& cluster) const {
  const std::string what =
      concat("what was written to '", folder.string(), "' is not as it must be");
  VerifyOptions options;
  options.depth = CheckDepth::kScales;
  try {
    const Checkpoint written(folder);
    require_no_problems(verify_checkpoint(written, model_, nullptr, options, cluster).findings,
                        what);
  } catch (const ReadError&) {
    throw;
  } catch (const InputError& error) {  // of our own making
    throw VerificationError(concat(what, ": ", error.what()));
  }
}

}  // namespace halftone
