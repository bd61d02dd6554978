#include <ATen/ATen.h>

#include <map>
#include <optional>

#include "core/error.h"
#include "core/log.h"
#include "engine/weight_source.h"
#include "export/hf_layout.h"
#include "formats/tensor_bridge.h"
#include "kernels/scale.h"
#include "model/family.h"

namespace halftone {
namespace {

// What a checkpoint's configuration says of its quantization.
struct StoredQuantization {
  std::string uniform_algo;                   // empty: none or per layer
  std::map<std::string, std::string> layers;  // module to algo
  bool kv_fp8 = false;
};

StoredQuantization read_quantization(const Checkpoint& checkpoint) {
  const std::string source = (checkpoint.directory() / "config.json").string();
  const Json& config = checkpoint.config().at("quantization_config");
  if (!config.is_object()) throw InputError(source + ": 'quantization_config' must be an object");
  const auto method = json_member_or<std::string>(config, "quant_method", "", source);
  if (method != "modelopt") {
    throw InputError(
        concat(source, ": quant_method '", method, "' cannot be read yet; supported: modelopt"));
  }
  StoredQuantization stored;
  stored.uniform_algo = json_member_or<std::string>(config, "quant_algo", "", source);
  if (stored.uniform_algo == "MIXED_PRECISION") stored.uniform_algo.clear();
  const auto layers = config.find("quantized_layers");
  if (layers != config.end() && layers->is_object()) {
    for (const auto& [name, entry] : layers->items()) {
      stored.layers[name] = json_member<std::string>(entry, "quant_algo", source);
    }
  }
  const auto scheme = config.find("kv_cache_scheme");
  if (scheme != config.end() && !scheme->is_null()) {
    if (!scheme->is_object() || json_member_or<int64_t>(*scheme, "num_bits", 0, source) != 8 ||
        json_member_or<std::string>(*scheme, "type", "float", source) != "float") {
      throw InputError(source + ": this kv_cache_scheme cannot be read yet; supported: FP8");
    }
    stored.kv_fp8 = true;
  }
  return stored;
}

class ExportedSource : public WeightSource {
 public:
  ExportedSource(const Checkpoint& checkpoint, const Model& model)
      : checkpoint_(checkpoint), model_(model) {
    const StoredQuantization stored = read_quantization(checkpoint);
    for (const StageSpec& stage : model.stages()) plan_stage(stage, stored);
  }

  std::vector<std::vector<std::string>> names() const override { return names_; }

  StageWeights weights(size_t stage, const LoadedStage& loaded, at::ScalarType dtype,
                       ThreadPool& pool) override {
    const StageSpec& spec = model_.stages()[stage];
    StageFakeQuant& fake = stages_[stage];
    StageWeights weights;
    std::map<std::string, size_t> packed_weights;
    for (size_t i = 0; i < spec.linears.size(); ++i) {
      if (fake.codecs[i] != nullptr) packed_weights[spec.linears[i].weight] = i;
    }
    for (const TensorNeed& need : spec.tensors) {
      const auto packed = packed_weights.find(need.name);
      if (packed == packed_weights.end()) {
        weights.set(need.name, loaded.tensor(need.name).to(dtype));
      } else {
        weights.set(need.name, unpack(fake, packed->second, spec, loaded, dtype, pool));
      }
    }
    read_cache_scales(fake, spec, loaded);
    return weights;
  }

  std::unique_ptr<LinearRunner> make_runner(size_t stage) const override {
    return std::make_unique<FakeQuantRunner>(stages_[stage]);
  }

 private:
  const Codec* codec_of(const LinearSite& linear, const StoredQuantization& stored) const {
    if (!checkpoint_.has(linear.name + ".weight_scale")) return nullptr;
    const auto layer = stored.layers.find(linear.name);
    const std::string& algo = layer != stored.layers.end() ? layer->second : stored.uniform_algo;
    const Codec* codec = codec_for_algo(algo);
    if (codec == nullptr) {
      throw InputError(concat("'", checkpoint_.directory().string(), "': '", linear.name,
                              "' is stored as '", algo, "', which cannot be read yet"));
    }
    return codec;
  }

  void plan_stage(const StageSpec& stage, const StoredQuantization& stored) {
    StageFakeQuant fake;
    std::vector<std::string> names;
    std::map<std::string, size_t> packed_weights;
    for (size_t i = 0; i < stage.linears.size(); ++i) {
      fake.codecs.push_back(codec_of(stage.linears[i], stored));
      fake.input_amax.emplace_back();
      if (fake.codecs[i] != nullptr) packed_weights[stage.linears[i].weight] = i;
    }
    for (const TensorNeed& need : stage.tensors) {
      const auto packed = packed_weights.find(need.name);
      if (packed == packed_weights.end()) {
        check_tensor(checkpoint_, need);
        names.push_back(need.name);
      } else {
        add_packed(stage.linears[packed->second], *fake.codecs[packed->second], names);
      }
    }
    for (const AttentionSite& attention : stage.attentions) {
      const bool scaled = stored.kv_fp8 && checkpoint_.has(key_scale_name(attention.name));
      fake.kv.push_back(!stored.kv_fp8 ? KvFormat::kNone
                        : scaled       ? KvFormat::kFp8
                                       : KvFormat::kFp8Cast);
      fake.kv_amax.emplace_back(0.0f, 0.0f);
      if (!scaled) continue;
      for (const std::string& name :
           {key_scale_name(attention.name), value_scale_name(attention.name)}) {
        check_stored({name, DType::kF32, {}});
        names.push_back(name);
      }
    }
    stages_.push_back(std::move(fake));
    names_.push_back(std::move(names));
  }

  void add_packed(const LinearSite& linear, const Codec& codec, std::vector<std::string>& names) {
    codec.check_shape(linear.name, linear.out, linear.in);
    const bool input_quantized = checkpoint_.has(linear.name + ".input_scale");
    for (TensorSpec spec : codec.tensors(linear.out, linear.in, input_quantized)) {
      spec.name = linear.name + "." + spec.name;
      check_stored(spec);
      names.push_back(spec.name);
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

  at::Tensor unpack(StageFakeQuant& fake, size_t index, const StageSpec& spec,
                    const LoadedStage& loaded, at::ScalarType dtype, ThreadPool& pool) const {
    const LinearSite& linear = spec.linears[index];
    const Codec& codec = *fake.codecs[index];
    const bool input_quantized = checkpoint_.has(linear.name + ".input_scale");
    PackedLinear packed;
    for (const TensorSpec& tensor : codec.tensors(linear.out, linear.in, input_quantized)) {
      packed[tensor.name] = loaded.tensor(linear.name + "." + tensor.name);
      if (tensor.dtype == DType::kF32) check_scales(tensor.name, linear, packed[tensor.name]);
    }
    const auto input_scale = packed.find("input_scale");
    if (input_scale != packed.end()) {
      fake.input_amax[index] = codec.amax_of_input_scale(input_scale->second.item<float>());
    }
    return codec.unpack(packed, dtype, &pool);
  }

  void check_scales(const std::string& suffix, const LinearSite& linear,
                    const at::Tensor& scales) const {
    if (at::logical_and(at::isfinite(scales), scales > 0).all().item<bool>()) return;
    const std::string name = linear.name + "." + suffix;
    throw InputError(concat("tensor '", name, "' in '", checkpoint_.file_of(name).string(),
                            "' holds a scale that is zero, negative or not finite"));
  }

  static void read_cache_scales(StageFakeQuant& fake, const StageSpec& spec,
                                const LoadedStage& loaded) {
    for (size_t i = 0; i < spec.attentions.size(); ++i) {
      if (!has_scales(fake.kv[i])) continue;
      const auto amax = [&](const std::string& name) {
        return loaded.tensor(name).item<float>() * kMaxE4M3;
      };
      fake.kv_amax[i] = {amax(key_scale_name(spec.attentions[i].name)),
                         amax(value_scale_name(spec.attentions[i].name))};
    }
  }

  const Checkpoint& checkpoint_;
  const Model& model_;
  std::vector<std::vector<std::string>> names_;
  std::vector<StageFakeQuant> stages_;
};

}  // namespace

bool is_quantized(const Checkpoint& checkpoint) {
  const auto found = checkpoint.config().find("quantization_config");
  return found != checkpoint.config().end() && !found->is_null();
}

std::unique_ptr<WeightSource> make_exported_source(const Checkpoint& checkpoint,
                                                   const Model& model) {
  return std::make_unique<ExportedSource>(checkpoint, model);
}

}  // namespace halftone
