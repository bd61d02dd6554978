#include <ATen/ATen.h>

#include <map>
#include <optional>

#include "core/error.h"
#include "core/log.h"
#include "engine/compressed_stage.h"
#include "engine/exported_formats.h"
#include "engine/weight_source.h"
#include "export/hf_layout.h"
#include "export/hf_names.h"
#include "export/stored_quantization.h"
#include "formats/low_bit_source.h"
#include "formats/tensor_bridge.h"
#include "kernels/scale.h"
#include "model/source_layout.h"

namespace halftone {
namespace {

class ExportedSource : public WeightSource {
 public:
  ExportedSource(const Checkpoint& checkpoint, const Model& model)
      : checkpoint_(checkpoint),
        model_(model),
        dtype_(model_dtype(checkpoint)),
        library_(is_library_layout(checkpoint)) {
    for (StagePlan& plan : exported_formats(checkpoint, model)) {
      plan_stage(model.stages()[stages_.size()], std::move(plan));
    }
  }

  const std::vector<std::vector<StoredTensor>>& tensors() const override { return tensors_; }

  StageWeights weights(size_t stage, const LoadedStage& loaded, at::ScalarType dtype,
                       ThreadPool& pool) override {
    const StageSpec& spec = model_.stages()[stage];
    StageWeights weights;
    for (const TensorNeed& need : spec.tensors) {
      if (!loaded.has(need.name) || packed_[stage].count(need.name) > 0) continue;
      const at::Tensor tensor = loaded.tensor(need.name);
      weights.set(need.name, need.keeps_dtype ? tensor : tensor.to(dtype));
    }
    for (const auto& [name, index] : packed_[stage]) {
      const LinearSite& linear = spec.linears[index];
      const std::string first =
          stored_tensors(formats_[stage][index], linear.out, linear.in, dtype_).front().name;
      if (loaded.has(linear.name + "." + first)) {
        weights.set(name, unpack(stage, index, loaded, dtype, pool));
      }
    }
    read_cache_scales(stages_[stage], spec, loaded);
    return weights;
  }

  std::unique_ptr<LinearRunner> make_runner(size_t stage) const override {
    return std::make_unique<FakeQuantRunner>(stages_[stage]);
  }

 private:
  void plan_stage(const StageSpec& stage, StagePlan plan) {
    std::vector<LinearFormat>& formats = plan.linears;
    std::vector<StoredTensor> tensors;
    std::map<std::string, size_t> packed;
    for (size_t i = 0; i < stage.linears.size(); ++i) {
      if (!formats[i].quantized()) continue;
      packed[stage.linears[i].weight] = i;
      add_packed(stage.linears[i], formats[i], stage.experts, tensors);
    }
    for (const TensorNeed& need : stage.tensors) {
      if (packed.count(need.name) == 0) tensors.push_back(locate_plain(checkpoint_, need));
    }
    StageFakeQuant fake;
    fake.linears.resize(stage.linears.size());
    fake.kv = plan.kv;
    fake.caches.resize(plan.kv.size());
    for (size_t i = 0; i < stage.attentions.size(); ++i) {
      for (const TensorSpec& spec :
           cache_tensors(stage.attentions[i], fake.kv[i], dtype_, library_)) {
        check_stored(spec);
        tensors.push_back(stored_plainly(checkpoint_.info(spec.name)));
      }
    }
    stages_.push_back(std::move(fake));
    formats_.push_back(std::move(formats));
    packed_.push_back(std::move(packed));
    tensors_.push_back(std::move(tensors));
  }

  void add_packed(const LinearSite& linear, const LinearFormat& format, int64_t experts,
                  std::vector<StoredTensor>& tensors) {
    format.codec->check_shape(linear.name, linear.out, linear.in);
    for (const HfPart& part : hf_parts(linear, format, experts, dtype_)) {
      check_stored(part.whole);
      tensors.push_back(stored_part(checkpoint_, linear, part));
    }
  }

  void check_stored(const TensorSpec& spec) const {
    const TensorInfo& info = checkpoint_.info(spec.name);
    if (info.dtype == spec.dtype && info.shape == spec.shape) return;
    throw InputError(concat("tensor '", spec.name, "' in '",
                            checkpoint_.file_of(spec.name).string(), "' is ", name_of(info.dtype),
                            " ", shape_text(info.shape), "; expected ", name_of(spec.dtype), " ",
                            shape_text(spec.shape)));
  }

  at::Tensor unpack(size_t stage, size_t index, const LoadedStage& loaded, at::ScalarType dtype,
                    ThreadPool& pool) {
    const LinearSite& linear = model_.stages()[stage].linears[index];
    const LinearFormat& format = formats_[stage][index];
    const PackedLinear packed = stored_linear(loaded, linear, format, dtype_);
    for (const auto& [name, tensor] : packed) {
      const bool scale = name.find("_scale") != std::string::npos;
      if (scale && tensor.scalar_type() == at::kFloat) check_scales(name, linear, tensor);
    }
    const auto placed = [&](const char* name) {
      const auto found = packed.find(name);
      return found == packed.end() ? at::Tensor() : found->second.to(dtype);
    };
    LinearFakeQuant& fake = stages_[stage].linears[index];
    fake = {format.input.kind, 0.0f, placed("pre_quant_scale"), placed(kLowRankA),
            placed(kLowRankB)};
    if (format.input.has_scale()) {
      fake.input_amax =
          amax_of_input_scale(format.input.kind, packed.at("input_scale").item<float>());
    }
    return format.codec->unpack(packed, dtype, &pool);
  }

  void check_scales(const std::string& suffix, const LinearSite& linear,
                    const at::Tensor& scales) const {
    if (at::logical_and(at::isfinite(scales), scales > 0).all().item<bool>()) return;
    const std::string name = linear.name + "." + suffix;
    const fs::path place =
        checkpoint_.has(name) ? checkpoint_.file_of(name) : checkpoint_.directory();
    throw InputError(concat("tensor '", name, "' in '", place.string(),
                            "' holds a scale that is zero, negative or not finite"));
  }

  void read_cache_scales(StageFakeQuant& fake, const StageSpec& spec,
                         const LoadedStage& loaded) const {
    for (size_t i = 0; i < spec.attentions.size(); ++i) {
      const AttentionSite& attention = spec.attentions[i];
      if (!has_scales(fake.kv[i]) || !loaded.has(key_scale_name(attention.name, library_)))
        continue;
      const auto scale = [&](const std::string& scale_name, const std::string& bias_name) {
        CacheScale cache{loaded.tensor(scale_name).item<float>() * kMaxE4M3, {}};
        if (has_bias(fake.kv[i])) {
          cache.bias_HD = loaded.tensor(bias_name).to(at::kFloat).view({attention.kv_heads, -1});
        }
        return cache;
      };
      fake.caches[i] = {
          scale(key_scale_name(attention.name, library_), key_bias_name(attention.name)),
          scale(value_scale_name(attention.name, library_), value_bias_name(attention.name))};
    }
  }

  const Checkpoint& checkpoint_;
  const Model& model_;
  DType dtype_;   // of the model: scales and biases that are not F32
  bool library_;  // another library's layout
  std::vector<std::vector<StoredTensor>> tensors_;
  std::vector<std::vector<LinearFormat>> formats_;
  std::vector<std::map<std::string, size_t>> packed_;  // linears by their weight's name
  std::vector<StageFakeQuant> stages_;
};

// Sources may leave out the shape of packed weights, or give it in another type.
bool has_library_shapes(const Checkpoint& checkpoint) {
  const std::string packed = "weight_packed";
  for (const std::string& name : checkpoint.names()) {
    if (!name.ends_with(packed) || checkpoint.info(name).dtype != DType::kI32) continue;
    const std::string shape = name.substr(0, name.size() - packed.size()) + "weight_shape";
    if (!checkpoint.has(shape) || checkpoint.info(shape).dtype != DType::kI64) return false;
  }
  return true;
}

}  // namespace

bool is_quantized(const Checkpoint& checkpoint) {
  const auto found = checkpoint.config().find("quantization_config");
  return found != checkpoint.config().end() && !found->is_null() && !is_low_bit_source(checkpoint);
}

bool is_export(const Checkpoint& checkpoint) {
  if (is_quantized(checkpoint)) return true;
  if (!is_library_layout(checkpoint)) return false;
  try {
    read_quantization(checkpoint);
    return has_library_shapes(checkpoint);
  } catch (const InputError&) {
    return false;  // of formats that only sources have
  }
}

std::unique_ptr<WeightSource> make_exported_source(const Checkpoint& checkpoint,
                                                   const Model& model) {
  return std::make_unique<ExportedSource>(checkpoint, model);
}

}  // namespace halftone
