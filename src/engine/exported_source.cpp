#include <ATen/ATen.h>

#include <map>
#include <optional>

#include "core/error.h"
#include "core/log.h"
#include "engine/weight_source.h"
#include "export/hf_layout.h"
#include "export/hf_names.h"
#include "formats/codecs.h"
#include "formats/low_bit_source.h"
#include "formats/quant_algo.h"
#include "formats/tensor_bridge.h"
#include "kernels/scale.h"
#include "model/source_layout.h"

namespace halftone {
namespace {

// What a checkpoint's configuration says of its quantization.
struct StoredQuantization {
  struct Entry {
    std::string algo;
    int64_t group_size = 0;
    bool weight_only = false;  // its config group names weights alone
  };
  Entry uniform;                        // empty algo: none or per layer
  std::map<std::string, Entry> layers;  // by module
  Json kv_scheme;
};

// group_size of an entry of quantized_layers, or of the whole configuration: beside quant_algo or
// in its only config group.
int64_t group_size_of(const Json& entry, const std::string& source) {
  const auto direct = json_member_or<int64_t>(entry, "group_size", 0, source);
  if (direct != 0) return direct;
  const Json* at = &entry;
  for (const char* key : {"config_groups", "group_0", "weights"}) {
    const auto found = at->find(key);
    if (found == at->end() || !found->is_object()) return 0;
    at = &*found;
  }
  return json_member_or<int64_t>(*at, "group_size", 0, source);
}

// The config groups that quantize weights alone, by their targets.
std::map<std::string, bool> weight_only_targets(const Json& config) {
  std::map<std::string, bool> targets;
  const auto groups = config.find("config_groups");
  if (groups == config.end() || !groups->is_object()) return targets;
  for (const auto& [name, group] : groups->items()) {
    if (!group.is_object() || !group.contains("weights") || group.contains("input_activations")) {
      continue;
    }
    const auto list = group.find("targets");
    if (list == group.end() || !list->is_array()) continue;
    for (const Json& target : *list) {
      if (target.is_string()) targets[target.get<std::string>()] = true;
    }
  }
  return targets;
}

// hf_quant_config.json knows group sizes that config.json leaves out.
int64_t group_size_of_checkpoint(const Checkpoint& checkpoint, const Json& config,
                                 const std::string& source) {
  const int64_t found = group_size_of(config, source);
  const fs::path file = checkpoint.directory() / "hf_quant_config.json";
  if (found != 0 || !fs::exists(file)) return found;
  const Json full = parse_json(read_text_file(file, 1 << 26), file.string());
  const auto quantization = full.find("quantization");
  if (quantization == full.end() || !quantization->is_object()) return 0;
  return json_member_or<int64_t>(*quantization, "group_size", 0, file.string());
}

StoredQuantization read_quantization(const Checkpoint& checkpoint) {
  const std::string source = (checkpoint.directory() / "config.json").string();
  const Json& config = checkpoint.config().at("quantization_config");
  if (!config.is_object()) throw InputError(source + ": 'quantization_config' must be an object");
  const auto method = json_member_or<std::string>(config, "quant_method", "", source);
  if (method == "bitsandbytes") return {{"NF4", 0, true}, {}, {}};
  if (method != "modelopt") {
    throw InputError(concat(source, ": quant_method '", method,
                            "' cannot be read yet; supported: modelopt, bitsandbytes (NF4)"));
  }
  const auto weight_only = weight_only_targets(config);
  StoredQuantization stored;
  stored.uniform = {json_member_or<std::string>(config, "quant_algo", "", source),
                    group_size_of_checkpoint(checkpoint, config, source),
                    weight_only.count("Linear") > 0};
  if (stored.uniform.algo == "MIXED_PRECISION") stored.uniform = {};
  const auto layers = config.find("quantized_layers");
  if (layers != config.end() && layers->is_object()) {
    for (const auto& [name, entry] : layers->items()) {
      stored.layers[name] = {json_member<std::string>(entry, "quant_algo", source),
                             group_size_of(entry, source), weight_only.count(name) > 0};
    }
  }
  const auto scheme = config.find("kv_cache_scheme");
  if (scheme != config.end()) stored.kv_scheme = *scheme;
  return stored;
}

class ExportedSource : public WeightSource {
 public:
  ExportedSource(const Checkpoint& checkpoint, const Model& model)
      : checkpoint_(checkpoint), model_(model), dtype_(model_dtype(checkpoint)) {
    const StoredQuantization stored = read_quantization(checkpoint);
    for (const StageSpec& stage : model.stages()) plan_stage(stage, stored);
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
      if (loaded.has(spec.linears[index].name + ".weight")) {
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
  // Whether the checkpoint stacks this expert with its peers, quantized.
  bool is_stacked(const LinearSite& linear) const {
    return !linear.stacked.empty() && checkpoint_.has(hf_name(linear, true, "weight_scale"));
  }

  LinearFormat format_of(const LinearSite& linear, const StoredQuantization& stored) const {
    const bool stacked = is_stacked(linear);
    const auto has = [&](const std::string& suffix) {
      return checkpoint_.has(hf_name(linear, stacked, suffix));
    };
    if (stored.uniform.algo == "NF4") return nf4_format_of(linear);
    if (!has("weight_scale")) return {};
    const std::string container = linear.stacked.substr(0, linear.stacked.rfind('.'));
    const auto layer = stored.layers.find(stacked ? container : linear.name);
    const auto& entry = layer != stored.layers.end() ? layer->second : stored.uniform;
    const auto format = format_of_algo(entry.algo, entry.group_size, entry.weight_only, has);
    if (!format) {
      throw InputError(concat("'", checkpoint_.directory().string(), "': '", linear.name,
                              "' is stored as '", entry.algo, "', which cannot be read yet"));
    }
    LinearFormat found = *format;
    if (has(kLowRankA)) {
      const TensorInfo& a = checkpoint_.info(linear.name + "." + kLowRankA);
      if (a.shape.size() == 2) found.low_rank = a.shape[0];
    }
    return found;
  }

  LinearFormat nf4_format_of(const LinearSite& linear) const {
    LinearFormat format;
    const std::string state = linear.name + "." + kNf4State;
    if (!checkpoint_.has(state)) return format;
    format.codec = make_nf4_codec(checkpoint_.info(state).count());
    return format;
  }

  void plan_stage(const StageSpec& stage, const StoredQuantization& stored) {
    std::vector<LinearFormat> formats;
    std::vector<StoredTensor> tensors;
    std::map<std::string, size_t> packed;
    for (size_t i = 0; i < stage.linears.size(); ++i) {
      formats.push_back(format_of(stage.linears[i], stored));
      if (!formats[i].quantized()) continue;
      packed[stage.linears[i].weight] = i;
      add_packed(stage.linears[i], formats[i], stage.experts, tensors);
    }
    for (const TensorNeed& need : stage.tensors) {
      if (packed.count(need.name) == 0) tensors.push_back(locate_plain(checkpoint_, need));
    }
    StageFakeQuant fake;
    fake.linears.resize(stage.linears.size());
    for (const AttentionSite& attention : stage.attentions) {
      fake.kv.push_back(cache_format(attention, stored));
      fake.caches.emplace_back();
      for (const TensorSpec& spec : cache_tensors(attention, fake.kv.back(), dtype_)) {
        check_stored(spec);
        tensors.push_back(stored_plainly(checkpoint_.info(spec.name)));
      }
    }
    stages_.push_back(std::move(fake));
    formats_.push_back(std::move(formats));
    packed_.push_back(std::move(packed));
    tensors_.push_back(std::move(tensors));
  }

  KvFormat cache_format(const AttentionSite& attention, const StoredQuantization& stored) const {
    const auto format =
        kv_format_of_scheme(stored.kv_scheme, checkpoint_.has(key_scale_name(attention.name)),
                            checkpoint_.has(key_bias_name(attention.name)));
    if (format) return *format;
    throw InputError(concat((checkpoint_.directory() / "config.json").string(),
                            ": this kv_cache_scheme cannot be read, or '", attention.name,
                            "' lacks its scales; known: FP8, NVFP4, NVFP4_AFFINE"));
  }

  // A linear's stored tensors are called "<linear>.<suffix>" here, also where they are stacked.
  void add_packed(const LinearSite& linear, const LinearFormat& format, int64_t experts,
                  std::vector<StoredTensor>& tensors) {
    format.codec->check_shape(linear.name, linear.out, linear.in);
    for (const HfPart& part : hf_parts(linear, format, experts, dtype_)) {
      check_stored(part.whole);
      StoredTensor stored = stored_plainly(checkpoint_.info(part.whole.name), linear.expert);
      stored.name = linear.name + "." + part.suffix;
      if (part.count > 1) {
        stored.pieces = {{part.whole.name, part.index, part.count}};
        stored.bytes /= part.count;
        stored.shape.erase(stored.shape.begin());
      }
      if (part.input_major) {
        stored.transposed = true;
        stored.shape = {part.whole.shape[2], part.whole.shape[1]};
      }
      tensors.push_back(std::move(stored));
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
    PackedLinear packed;
    for (const TensorSpec& spec : stored_tensors(format, linear.out, linear.in, dtype_)) {
      packed[spec.name] = loaded.tensor(linear.name + "." + spec.name);
      if (spec.dtype == DType::kF32 && spec.name.find("_scale") != std::string::npos)
        check_scales(spec.name, linear, packed[spec.name]);
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
    throw InputError(concat("tensor '", name, "' in '", checkpoint_.file_of(name).string(),
                            "' holds a scale that is zero, negative or not finite"));
  }

  static void read_cache_scales(StageFakeQuant& fake, const StageSpec& spec,
                                const LoadedStage& loaded) {
    for (size_t i = 0; i < spec.attentions.size(); ++i) {
      const AttentionSite& attention = spec.attentions[i];
      if (!has_scales(fake.kv[i]) || !loaded.has(key_scale_name(attention.name))) continue;
      const auto scale = [&](const std::string& scale_name, const std::string& bias_name) {
        CacheScale cache{loaded.tensor(scale_name).item<float>() * kMaxE4M3, {}};
        if (has_bias(fake.kv[i])) {
          cache.bias_HD = loaded.tensor(bias_name).to(at::kFloat).view({attention.kv_heads, -1});
        }
        return cache;
      };
      fake.caches[i] = {scale(key_scale_name(attention.name), key_bias_name(attention.name)),
                        scale(value_scale_name(attention.name), value_bias_name(attention.name))};
    }
  }

  const Checkpoint& checkpoint_;
  const Model& model_;
  DType dtype_;  // of the model: scales and biases that are not F32
  std::vector<std::vector<StoredTensor>> tensors_;
  std::vector<std::vector<LinearFormat>> formats_;
  std::vector<std::map<std::string, size_t>> packed_;  // linears by their weight's name
  std::vector<StageFakeQuant> stages_;
};

}  // namespace

bool is_quantized(const Checkpoint& checkpoint) {
  const auto found = checkpoint.config().find("quantization_config");
  return found != checkpoint.config().end() && !found->is_null() && !is_low_bit_source(checkpoint);
}

std::unique_ptr<WeightSource> make_exported_source(const Checkpoint& checkpoint,
                                                   const Model& model) {
  return std::make_unique<ExportedSource>(checkpoint, model);
}

}  // namespace halftone
