#include "formats/quant_algo.h"

#include "formats/codecs.h"
#include "kernels/check.h"

namespace halftone {
namespace {

Json bits(int number, const char* type, int64_t group_size = 0) {
  Json entry{{"dynamic", false}, {"num_bits", number}, {"type", type}};
  if (group_size > 0) entry["group_size"] = group_size;
  return entry;
}

Json channels(Json entry) {
  entry["strategy"] = "channel";
  return entry;
}

Json group(Json input, Json weights) {
  Json json = Json::object();
  if (!input.is_null()) json["input_activations"] = std::move(input);
  if (!weights.is_null()) json["weights"] = std::move(weights);
  return json;
}

Json smoothed(int64_t group_size) {
  return {{"group_size", group_size}, {"has_zero_point", false}, {"pre_quant_scale", true}};
}

QuantAlgo nvfp4_algo(const LinearFormat& format) {
  const int64_t g = format.codec->block();
  const Json both = group(bits(4, "float", g), bits(4, "float", g));
  const Json size{{"group_size", g}};
  if (!format.input.quantized()) {
    const Json weights = group(nullptr, bits(4, "float", g));
    return {"W4A16_NVFP4", size, weights, weights};
  }
  if (format.input.kind == InputKind::kFp8) {
    return {"W4A8_NVFP4_FP8", size, nullptr, group(bits(8, "float"), bits(4, "float", g))};
  }
  if (format.smoothing == Smoothing::kSvdQuant) {
    Json svd = both;
    svd["has_zero_point"] = false;
    svd["pre_quant_scale"] = true;
    return {"NVFP4_SVD", smoothed(g), svd, svd};
  }
  if (format.smoothing == Smoothing::kAwq) {
    return {"NVFP4_AWQ", smoothed(g), nullptr, group(bits(8, "float", g), bits(4, "float", g))};
  }
  return {"NVFP4", size, both, both};
}

QuantAlgo mxfp4_algo(const LinearFormat& format) {
  if (format.input.kind == InputKind::kFp8 || format.input.kind == InputKind::kFp8Dynamic) {
    return {"W4A8_MXFP4_FP8",
            {{"group_size", 32}},
            nullptr,
            group(bits(8, "float"), bits(4, "float", 32))};
  }
  // The name is the same without quantized inputs; a config group as W4A16_NVFP4's says so.
  if (!format.input.quantized()) {
    const Json weights = group(nullptr, bits(4, "float", 32));
    return {"mxfp4", Json::object(), weights, weights};
  }
  return {"mxfp4", Json::object(), nullptr, {{"quant_algo", "mxfp4"}}};
}

}  // namespace

QuantAlgo quant_algo_of(const LinearFormat& format) {
  const std::string kind = format.codec->name();
  const int64_t g = format.codec->block();
  const Json eight = bits(8, "float");
  if (kind == "fp8") return {"FP8", Json::object(), group(eight, eight), group(eight, eight)};
  if (kind == "fp8 per channel") {
    return {"FP8_PER_CHANNEL_PER_TOKEN", Json::object(), nullptr, group(eight, channels(eight))};
  }
  if (kind.starts_with("fp8 tiles")) {
    return {"fp8_pb_wo", Json::object(), nullptr, {{"quant_algo", "fp8_pb_wo"}}};
  }
  if (kind == "int8" && !format.input.quantized()) {
    return {"W8A16", Json::object(), nullptr, group(nullptr, bits(8, "int"))};
  }
  if (kind == "int8") {
    return {"W8A8_SQ_PER_CHANNEL", Json::object(), nullptr,
            group(bits(8, "int"), channels(bits(8, "int")))};
  }
  if (kind.starts_with("int4") && format.input.quantized()) {
    return {"W4A8_AWQ", smoothed(g), nullptr, group(bits(8, "float", g), bits(4, "float", g))};
  }
  if (kind.starts_with("int4")) {
    return {"W4A16_AWQ", smoothed(g), nullptr, group(nullptr, bits(4, "int", g))};
  }
  if (kind.starts_with("nvfp4")) return nvfp4_algo(format);
  if (kind == "mxfp4") return mxfp4_algo(format);
  if (kind == "mxfp8") {
    return {
        "MXFP8", {{"group_size", 32}}, nullptr, group(bits(8, "float", 32), bits(8, "float", 32))};
  }
  if (kind == "nf4") return {"NF4", Json::object(), nullptr, Json::object()};
  check(false, "every codec has a name in the configuration: " + kind);
  return {};
}

std::optional<LinearFormat> format_of_algo(const std::string& name, int64_t group_size,
                                           bool weight_only,
                                           const std::function<bool(const std::string&)>& has) {
  LinearFormat format;
  const auto nvfp4 = [&](InputKind input, float divisor) {
    format.codec = make_nvfp4_codec({group_size == 32 ? 32 : 16, divisor, false, 448.0f});
    format.input.kind = input;
  };
  const int64_t int4_block = group_size > 0 ? group_size : 128;
  if (name == "FP8") {
    format.codec = make_fp8_codec();
    format.input.kind = has("input_scale") ? InputKind::kFp8 : InputKind::kNone;
  } else if (name == "FP8_PER_CHANNEL_PER_TOKEN") {
    format.codec = make_fp8_rows_codec();
    format.input.kind = InputKind::kFp8Token;
  } else if (name == "fp8_pb_wo") {
    format.codec = make_fp8_tiles_codec(128);
  } else if (name == "W8A16") {
    format.codec = make_int8_codec();
  } else if (name == "W8A8_SQ_PER_CHANNEL") {
    format.codec = make_int8_codec();
    format.input.kind = InputKind::kInt8;
  } else if (name == "W4A16_AWQ") {
    format.codec = make_int4_codec(int4_block, false);
  } else if (name == "W4A8_AWQ") {
    format.codec = make_int4_codec(int4_block, true);
    format.input.kind = InputKind::kFp8;
  } else if (name == "NVFP4" || name == "NVFP4_AWQ" || name == "NVFP4_SVD") {
    nvfp4(InputKind::kNvfp4, 2688.0f);
  } else if (name == "W4A16_NVFP4") {
    nvfp4(InputKind::kNone, 2688.0f);
  } else if (name == "W4A8_NVFP4_FP8") {
    nvfp4(InputKind::kFp8, 448.0f);
  } else if (name == "mxfp4") {
    format.codec = make_mxfp4_codec();
    format.input.kind = weight_only ? InputKind::kNone : InputKind::kMxfp4;
  } else if (name == "W4A8_MXFP4_FP8") {
    format.codec = make_mxfp4_codec();
    format.input.kind = has("input_scale") ? InputKind::kFp8 : InputKind::kFp8Dynamic;
  } else if (name == "MXFP8") {
    format.codec = make_mxfp8_codec();
    format.input.kind = InputKind::kMxfp8;
  } else {
    return std::nullopt;
  }
  if (has("pre_quant_scale")) format.pre_quant_scale = PreQuantScale::kStored;
  return format;
}

}  // namespace halftone
