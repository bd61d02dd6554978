#include "export/compressed_tensors_scheme.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "formats/codecs.h"

namespace halftone {
namespace {

constexpr int64_t kTile = 128;
constexpr const char* kE4M3Scale = "torch.float8_e4m3fn";
constexpr const char* kE8M0Scale = "torch.uint8";

using Args = CompressionScheme::Args;
constexpr Args kNothing{};
constexpr Args kInt8Channel{8, "int", "channel"};
constexpr Args kFp8Tensor{8, "float", "tensor"};
constexpr Args kNvfp4{4, "float", "tensor_group", 16, "", kE4M3Scale};
constexpr Args kMxfp4{4, "float", "group", 32, "", kE8M0Scale};
constexpr Args kMxfp8{8, "float", "group", 32, "", kE8M0Scale};

constexpr std::array kSchemes{
    CompressionScheme{
        "int4 block ", InputKind::kNone, "pack-quantized", {4, "int", "group"}, kNothing},
    CompressionScheme{"int8", InputKind::kNone, "pack-quantized", kInt8Channel, kNothing},
    CompressionScheme{
        "int8", InputKind::kInt8, "int-quantized", kInt8Channel, {8, "int", "tensor"}},
    CompressionScheme{"fp8", InputKind::kFp8, "float-quantized", kFp8Tensor, kFp8Tensor},
    CompressionScheme{"fp8",
                      InputKind::kFp8Dynamic,
                      "float-quantized",
                      kFp8Tensor,
                      {8, "float", "tensor", 0, "true"}},
    CompressionScheme{"fp8 per channel",
                      InputKind::kFp8Token,
                      "float-quantized",
                      {8, "float", "channel"},
                      {8, "float", "token", 0, "true"}},
    CompressionScheme{
        "fp8 tiles of 128", InputKind::kNone, "naive-quantized", {8, "float", "block"}, kNothing},
    CompressionScheme{"nvfp4 block 16 ",
                      InputKind::kNvfp4,
                      "nvfp4-pack-quantized",
                      kNvfp4,
                      {4, "float", "tensor_group", 16, "local", kE4M3Scale}},
    CompressionScheme{"nvfp4 block 16 ", InputKind::kNone, "nvfp4-pack-quantized", kNvfp4,
                      kNothing},
    CompressionScheme{"mxfp4",
                      InputKind::kMxfp4,
                      "mxfp4-pack-quantized",
                      kMxfp4,
                      {4, "float", "group", 32, "true", kE8M0Scale}},
    CompressionScheme{"mxfp4", InputKind::kNone, "mxfp4-pack-quantized", kMxfp4, kNothing},
    CompressionScheme{"mxfp8",
                      InputKind::kMxfp8,
                      "mxfp8-quantized",
                      kMxfp8,
                      {8, "float", "group", 32, "true", kE8M0Scale}},
};

bool is_codec(std::string_view pattern, const std::string& name) {
  return pattern.ends_with(' ') ? name.starts_with(pattern) : name == pattern;
}

Json args_json(const Args& args, int64_t group) {
  Json json{{"num_bits", args.bits},
            {"type", args.type},
            {"symmetric", true},
            {"strategy", args.strategy},
            {"group_size", group > 0 ? Json(group) : Json(nullptr)},
            {"dynamic", args.dynamic == std::string_view("local") ? Json("local")
                                                                  : Json(*args.dynamic != '\0')}};
  if (args.strategy == std::string_view("block"))
    json["block_structure"] = Json::array({kTile, kTile});
  if (*args.scale_dtype != '\0') json["scale_dtype"] = args.scale_dtype;
  return json;
}

// What decides of an entry of a config group.
struct ReadArgs {
  int64_t bits = 0;
  std::string type;
  std::string strategy;
  int64_t group = 0;
  std::string dynamic;  // as in Args
  bool symmetric = true;
  Json block;

  bool is(const Args& args) const {
    if (bits != args.bits) return false;
    if (bits == 0) return true;
    const bool tiles = args.strategy == std::string_view("block");
    return symmetric && type == args.type && strategy == args.strategy && dynamic == args.dynamic &&
           (args.group == 0 || group == args.group) &&
           (!tiles || block == Json::array({kTile, kTile}));
  }
};

std::string inferred_strategy(int64_t group) {
  return group > 0 ? "group" : group == -1 ? "channel" : "tensor";
}

ReadArgs read_args(const Json& group, const char* key, const std::string& source) {
  ReadArgs args;
  const auto found = group.find(key);
  if (found == group.end() || found->is_null()) return args;
  args.bits = json_member_or<int64_t>(*found, "num_bits", 8, source);
  args.type = json_member_or<std::string>(*found, "type", "int", source);
  args.group = json_member_or<int64_t>(*found, "group_size", 0, source);
  args.strategy =
      json_member_or<std::string>(*found, "strategy", inferred_strategy(args.group), source);
  args.symmetric = json_member_or<bool>(*found, "symmetric", true, source);
  args.block = found->value("block_structure", Json());
  const Json dynamic = found->value("dynamic", Json(false));
  if (dynamic == true) args.dynamic = "true";
  if (dynamic.is_string()) args.dynamic = dynamic.get<std::string>();
  return args;
}

std::shared_ptr<const Codec> codec_of(const CompressionScheme& scheme, int64_t group) {
  const std::string_view codec = scheme.codec;
  if (codec == "int4 block ") return make_int4_codec(group, false);
  if (codec == "int8") return make_int8_codec();
  if (codec == "fp8") return make_fp8_codec();
  if (codec == "fp8 per channel") return make_fp8_rows_codec();
  if (codec == "fp8 tiles of 128") return make_fp8_tiles_codec(kTile);
  if (codec == "mxfp4") return make_mxfp4_codec();
  if (codec == "mxfp8") return make_mxfp8_codec();
  return make_nvfp4_codec({});
}

// The algorithm that may have changed norms and linears before this one.
Smoothing possible_smoothing(const CompressionScheme& scheme) {
  if (scheme.input == InputKind::kInt8) return Smoothing::kSmoothQuant;
  const std::string_view codec = scheme.codec;
  return codec.starts_with("int4") || codec.starts_with("nvfp4") ? Smoothing::kAwq
                                                                 : Smoothing::kNone;
}

}  // namespace

bool CompressionScheme::packs_integers() const {
  return format == std::string_view("pack-quantized");
}

bool CompressionScheme::packs_floats() const {
  return weights.bits == 4 && weights.type == std::string_view("float");
}

bool CompressionScheme::has_global_scales() const {
  return weights.strategy == std::string_view("tensor_group");
}

const CompressionScheme* compression_scheme(const LinearFormat& format) {
  const std::string name = format.codec->name();
  const auto* found =
      std::find_if(kSchemes.begin(), kSchemes.end(), [&](const CompressionScheme& scheme) {
        return scheme.input == format.input.kind && is_codec(scheme.codec, name);
      });
  return found == kSchemes.end() ? nullptr : found;
}

Json config_group(const CompressionScheme& scheme, const LinearFormat& format) {
  const bool grouped = scheme.weights.strategy == std::string_view("group");
  const int64_t group = grouped ? format.codec->block() : scheme.weights.group;
  return {{"format", scheme.format},
          {"input_activations", scheme.activations.bits == 0
                                    ? Json(nullptr)
                                    : args_json(scheme.activations, scheme.activations.group)},
          {"output_activations", nullptr},
          {"weights", args_json(scheme.weights, group)}};
}

std::optional<LinearFormat> format_of_group(const Json& group, const std::string& source) {
  if (!group.is_object() || !group.value("output_activations", Json()).is_null()) {
    return std::nullopt;
  }
  const ReadArgs weights = read_args(group, "weights", source);
  const ReadArgs inputs = read_args(group, "input_activations", source);
  const auto* scheme =
      std::find_if(kSchemes.begin(), kSchemes.end(), [&](const CompressionScheme& one) {
        return weights.is(one.weights) && inputs.is(one.activations);
      });
  const bool known = scheme != kSchemes.end() && (weights.strategy != "group" || weights.group > 0);
  if (!known) return std::nullopt;
  // The same numbers may be packed or not.
  if (group.value("format", Json(scheme->format)) != scheme->format) return std::nullopt;
  LinearFormat format;
  format.codec = codec_of(*scheme, weights.group);
  format.input.kind = scheme->input;
  format.smoothing = possible_smoothing(*scheme);
  return format;
}

}  // namespace halftone
