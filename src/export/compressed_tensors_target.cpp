// The layout of the compressed-tensors library, which transformers, vLLM and SGLang read:
// pack-quantized, int-quantized, float-quantized, naive-quantized (weights alone),
// nvfp4-pack-quantized, mxfp4-pack-quantized and mxfp8-quantized.
#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "export/compressed_tensors_scheme.h"
#include "export/int_words.h"
#include "export/library_targets.h"
#include "formats/tensor_bridge.h"
#include "kernels/check.h"

namespace halftone {
namespace {

// The version of the library whose layout this is.
constexpr const char* kVersion = "0.20.0";
constexpr uint8_t kInt8Zero = 128;

int64_t quotient(int64_t size, int64_t by) {
  return (size + by - 1) / by;
}

const CompressionScheme& scheme_of(const LinearFormat& format) {
  const CompressionScheme* scheme = compression_scheme(format);
  check(scheme != nullptr, "what the library cannot hold was refused");
  return *scheme;
}

at::Tensor words_of(const at::Tensor& weight, int bits) {
  if (bits == 4) return pack_words(int4_codes(weight), bits);
  return pack_words(at::bitwise_xor(weight.view(at::kByte), kInt8Zero), bits);
}

at::Tensor weight_of_words(const at::Tensor& words, int bits, int64_t in) {
  const at::Tensor codes_NK = unpack_words(words, bits, in);
  return bits == 4 ? packed_int4(codes_NK) : at::bitwise_xor(codes_NK, kInt8Zero).view(at::kChar);
}

at::Tensor inverted(const at::Tensor& scale) {
  return scale.to(at::kFloat).reshape({1}).reciprocal();
}

class CompressedForm : public StoredForm {
 public:
  explicit CompressedForm(DType scales) : scales_(scales) {}

  std::vector<TensorSpec> tensors(const LinearFormat& format, int64_t out,
                                  int64_t in) const override {
    const CompressionScheme& scheme = scheme_of(format);
    const int bits = scheme.weights.bits;
    std::vector<TensorSpec> specs;
    if (scheme.packs_integers()) {
      specs.push_back({"weight_packed", DType::kI32, {out, quotient(in * bits, 32)}});
      specs.push_back({"weight_shape", DType::kI64, {2}});
    } else if (scheme.packs_floats()) {
      specs.push_back({"weight_packed", DType::kU8, {out, in / 2}});
    } else {
      const DType codes = scheme.weights.type == std::string("int") ? DType::kI8 : DType::kF8E4M3;
      specs.push_back({"weight", codes, {out, in}});
    }
    specs.push_back(scale_spec(format, out, in));
    if (scheme.has_global_scales()) specs.push_back({"weight_global_scale", DType::kF32, {1}});
    if (!format.input.has_scale()) return specs;
    if (scheme.has_global_scales()) {
      specs.push_back({"input_global_scale", DType::kF32, {1}});
    } else {
      specs.push_back({"input_scale", scales_, {1}});
    }
    return specs;
  }

  PackedLinear encode(const std::string& /*module*/, const LinearFormat& format,
                      const PackedLinear& unified) const override {
    const CompressionScheme& scheme = scheme_of(format);
    const at::Tensor& weight = unified.at("weight");
    const bool int4 = scheme.packs_integers() && scheme.weights.bits == 4;
    const int64_t out = weight.size(0) * (int4 ? 2 : 1);
    const int64_t in = weight.size(1) * (scheme.packs_floats() ? 2 : 1);
    PackedLinear stored;
    if (scheme.packs_integers()) {
      stored["weight_packed"] = words_of(weight, scheme.weights.bits);
      stored["weight_shape"] = at::tensor({out, in}, at::kLong);
    } else {
      stored[scheme.packs_floats() ? "weight_packed" : "weight"] = weight;
    }
    const TensorSpec scale = scale_spec(format, out, in);
    stored["weight_scale"] =
        unified.at("weight_scale").reshape(scale.shape).to(scalar_type_of(scale.dtype));
    if (scheme.has_global_scales()) {
      stored["weight_global_scale"] = inverted(unified.at("weight_scale_2"));
    }
    if (!format.input.has_scale()) return stored;
    const at::Tensor& input = unified.at("input_scale");
    if (scheme.has_global_scales()) {
      stored["input_global_scale"] = inverted(input);
    } else {
      stored["input_scale"] = input.reshape({1}).to(scalar_type_of(scales_));
    }
    return stored;
  }

  PackedLinear decode(const std::string& module, const LinearFormat& format,
                      const PackedLinear& stored) const override {
    const CompressionScheme& scheme = scheme_of(format);
    PackedLinear unified;
    if (scheme.packs_integers()) {
      const at::Tensor& shape = stored.at("weight_shape");
      const at::Tensor& words = stored.at("weight_packed");
      const int64_t in = shape.select(0, 1).item<int64_t>();
      if (shape.select(0, 0).item<int64_t>() != words.size(0) || in < 0 ||
          quotient(in * scheme.weights.bits, 32) != words.size(1)) {
        throw InputError(concat("'", module, ".weight_shape' does not go with the ", words.size(0),
                                " x ", words.size(1), " words of '", module, ".weight_packed'"));
      }
      unified["weight"] = weight_of_words(words, scheme.weights.bits, in);
    } else {
      unified["weight"] = stored.at(scheme.packs_floats() ? "weight_packed" : "weight");
    }
    unified["weight_scale"] = unified_scale(format, stored.at("weight_scale"));
    if (scheme.has_global_scales()) {
      unified["weight_scale_2"] = inverted(stored.at("weight_global_scale")).squeeze(0);
    }
    if (!format.input.has_scale()) return unified;
    unified["input_scale"] = scheme.has_global_scales()
                                 ? inverted(stored.at("input_global_scale")).squeeze(0)
                                 : stored.at("input_scale").to(at::kFloat).squeeze(0);
    return unified;
  }

 private:
  // [1], [out, 1], [out, in / group], or [out / 128, in / 128] rounded up.
  TensorSpec scale_spec(const LinearFormat& format, int64_t out, int64_t in) const {
    std::vector<int64_t> shape;
    DType dtype = DType::kF32;
    for (const TensorSpec& spec : format.codec->tensors(out, in)) {
      if (spec.name != "weight_scale") continue;
      dtype = spec.dtype == DType::kF32 ? scales_ : spec.dtype;
      shape = spec.shape;
    }
    const std::string strategy = scheme_of(format).weights.strategy;
    if (strategy == "tensor") shape = {1};
    if (strategy == "channel") shape = {out, 1};
    if (strategy == "block")
      shape = shape.empty() ? std::vector<int64_t>{1, 1} : std::vector<int64_t>{shape[0], shape[2]};
    return {"weight_scale", dtype, shape};
  }

  static at::Tensor unified_scale(const LinearFormat& format, const at::Tensor& stored) {
    if (stored.scalar_type() == at::kByte) return stored;
    const at::Tensor scale = stored.to(at::kFloat);
    const std::string strategy = scheme_of(format).weights.strategy;
    if (strategy == "tensor") return scale.squeeze(0);
    if (strategy == "channel") return scale.squeeze(1);
    if (strategy != "block") return scale;
    if (scale.numel() == 1) return scale.reshape({});
    return scale.view({scale.size(0), 1, scale.size(1), 1});
  }

  DType scales_;
};

std::string problem(const LinearSite& /*linear*/, const LinearFormat& format) {
  if (compression_scheme(format) != nullptr) return "";
  return concat("is ", format_name(format), ", for which compressed-tensors has no scheme: choose ",
                "int4_awq, int8_wo, int8_sq, fp8, fp8_pc_pt, fp8_pb_wo, nvfp4, w4a16_nvfp4, mxfp4 ",
                "or mxfp8,");
}

std::shared_ptr<const StoredForm> form(DType scales) {
  return std::make_shared<const CompressedForm>(scales);
}

// "re:" and a regular expression for all modules of a layer.
std::string layer_pattern(const std::string& layer) {
  std::string pattern = "re:";
  for (const char c : layer) pattern += c == '.' ? std::string("\\.") : std::string(1, c);
  return pattern + "\\..*";
}

struct Group {
  Json scheme;
  Json modules = Json::array();
};

std::vector<Group> groups_of(const QuantizedModules& modules,
                             const std::vector<StagePlan>& stages) {
  std::vector<Group> groups;
  for (const auto& [name, stage, linear] : modules.quantized) {
    const LinearFormat& format = stages[stage].linears[linear];
    Group group{config_group(scheme_of(format), format)};
    auto found = std::find_if(groups.begin(), groups.end(),
                              [&](const Group& other) { return other.scheme == group.scheme; });
    if (found == groups.end()) found = groups.insert(groups.end(), std::move(group));
    found->modules.push_back(name);
  }
  return groups;
}

Json config(const QuantizedModules& modules, const std::vector<StagePlan>& stages) {
  const std::vector<Group> groups = groups_of(modules, stages);
  const bool uniform = groups.size() == 1;
  Json config_groups = Json::object();
  std::string format;
  for (size_t i = 0; i < groups.size(); ++i) {
    Json scheme = groups[i].scheme;
    const auto mine = scheme.at("format").get<std::string>();
    format = i == 0 || format == mine ? mine : "mixed-precision";
    scheme["targets"] = uniform ? Json::array({"Linear"}) : groups[i].modules;
    config_groups["group_" + std::to_string(i)] = std::move(scheme);
  }
  Json ignore = Json::array();
  for (const std::string& name : modules.unquantized) ignore.push_back(name);
  for (const std::string& layer : modules.next_token) ignore.push_back(layer_pattern(layer));
  Json cache = nullptr;
  if (modules.kv != KvFormat::kNone) {
    cache = {{"num_bits", 8},        {"type", "float"},       {"symmetric", true},
             {"strategy", "tensor"}, {"group_size", nullptr}, {"dynamic", false}};
  }
  return {{"config_groups", config_groups},
          {"format", format},
          {"global_compression_ratio", nullptr},
          {"ignore", ignore},
          {"kv_cache_scheme", cache},
          {"quant_method", "compressed-tensors"},
          {"quantization_status", "compressed"},
          {"sparsity_config", Json::object()},
          {"transform_config", Json::object()},
          {"version", kVersion}};
}

[[noreturn]] void refuse(const std::string& source, const std::string& what) {
  throw InputError(concat(source, ": the quantization_config of compressed-tensors ", what,
                          ", which cannot be read"));
}

// As kv_scheme_of() spells it.
Json cache_scheme(const Json& config, const std::string& source) {
  const Json scheme = config.value("kv_cache_scheme", Json());
  if (scheme.is_null()) return nullptr;
  const bool fp8 = scheme.is_object() && scheme.value("num_bits", Json()) == 8 &&
                   scheme.value("type", Json()) == "float" &&
                   scheme.value("strategy", Json("tensor")) == "tensor" &&
                   scheme.value("dynamic", Json(false)) == false &&
                   scheme.value("symmetric", Json(true)) == true;
  if (!fp8) refuse(source, "has a kv_cache_scheme other than static FP8 per tensor");
  return kv_scheme_of(KvFormat::kFp8);
}

StoredQuantization read(const Json& config, const std::string& source) {
  const auto groups = config.find("config_groups");
  if (groups == config.end() || !groups->is_object() || groups->empty()) {
    refuse(source, "has no config_groups");
  }
  if (config.value("quantization_status", Json("compressed")) != "compressed") {
    refuse(source, "is not of compressed weights");
  }
  StoredQuantization stored;
  for (const auto& [name, found] : groups->items()) {
    Json group = found;
    if (group.is_object() && group.value("format", Json()).is_null()) {
      group["format"] = config.value("format", Json());
    }
    const std::optional<LinearFormat> format = format_of_group(group, source);
    const Json targets = group.is_object() ? group.value("targets", Json()) : Json();
    if (!format || !targets.is_array()) refuse(source, "has a group '" + name + "'");
    const StoredQuantization::Entry entry{format_name(*format), 0, !format->input.quantized(),
                                          *format};
    for (const Json& target : targets) {
      if (target == "Linear") {
        stored.uniform = entry;
      } else if (target.is_string() && !target.get<std::string>().starts_with("re:")) {
        stored.layers[target.get<std::string>()] = entry;
      } else {
        refuse(source, "has a target " + target.dump().substr(0, 80));
      }
    }
  }
  stored.kv_scheme = cache_scheme(config, source);
  stored.excluded = config.value("ignore", Json::array());
  return stored;
}

}  // namespace

const LibraryTarget& compressed_tensors_target() {
  static const LibraryTarget target{"compressed-tensors",
                                    "compressed-tensors",
                                    "weight_scale",
                                    /*one_format=*/false,
                                    &problem,
                                    /*fp8_cache=*/true,
                                    &form,
                                    DType::kF32,
                                    &config,
                                    &read};
  return target;
}

}  // namespace halftone
