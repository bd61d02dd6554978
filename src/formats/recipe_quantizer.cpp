// The attributes of calibration.md, 2.2.
#include "formats/recipe_quantizer.h"

#include <iterator>

#include "core/log.h"
#include "core/text_distance.h"

namespace halftone {
namespace {

constexpr size_t kMaxStages = 8;

NumberFormat read_float_format(const YamlValue& value, int64_t exponent, int64_t mantissa) {
  for (const NumberFormat& format : {kE4M3, kE2M1, kE8M0, kE3M2}) {
    if (format.exponent_bits == exponent && format.bits == mantissa) return format;
  }
  value.fail("expected a number of bits or e4m3, e2m1, e8m0, e3m2");
}

// 8, e4m3, or [4, 3], as older configurations write it.
NumberFormat read_number_format(const YamlValue& value) {
  if (value.is_list() && value.items.size() == 2) {
    return read_float_format(value, value.items[0].as<int64_t>("a number of bits"),
                             value.items[1].as<int64_t>("a number of bits"));
  }
  if (value.text == "e4m3") return kE4M3;
  if (value.text == "e2m1") return kE2M1;
  if (value.text == "e8m0") return kE8M0;
  if (value.text == "e3m2") return kE3M2;
  const auto bits = value.as<int64_t>("a number of bits or e4m3, e2m1, e8m0, e3m2");
  if (bits < 2 || bits > 16) value.fail(concat("num_bits must be 2 to 16, found ", bits));
  return {0, static_cast<int>(bits)};
}

bool read_is_dynamic(const YamlValue& value) {
  const auto text = value.as<std::string>("static or dynamic");
  if (text != "static" && text != "dynamic") value.fail("expected static or dynamic");
  return text == "dynamic";
}

int64_t read_block_size(const YamlValue& value) {
  if (value.is_null()) return kWholeAxis;
  const auto size = value.as<int64_t>("a block size, or null for the whole axis");
  if (size < 1) value.fail("block sizes must be positive");
  return size;
}

// Block sizes carry some attributes of the quantizer itself.
BlockSizes read_block_sizes(const YamlValue& value, Quantizer& quantizer) {
  value.only_keys({"-1", "-2", "type", "scale_bits", "scale_block_sizes", "four_over_six"});
  BlockSizes sizes;
  for (const YamlEntry& entry : value.entries) {
    if (entry.key == "-1") sizes.last = read_block_size(entry.value);
    if (entry.key == "-2") sizes.second_last = read_block_size(entry.value);
    if (entry.key == "type") sizes.dynamic = read_is_dynamic(entry.value);
    if (entry.key == "scale_bits" && !entry.value.is_null()) {
      sizes.scale_bits = read_number_format(entry.value);
    }
    if (entry.key == "four_over_six") {
      quantizer.four_over_six = entry.value.as<bool>("true or false");
    }
    if (entry.key == "scale_block_sizes" && !entry.value.is_null()) {
      entry.value.only_keys({"-1"});
      const YamlValue* size = entry.value.find("-1");
      if (size == nullptr) entry.value.fail("scale_block_sizes needs -1");
      quantizer.scale_block = read_block_size(*size);
    }
  }
  if (sizes.last == 0) value.fail("block sizes need -1, the last dimension");
  if (sizes.dynamic && sizes.second_last != 0) {
    value.fail("dynamic blocks have one dimension only");
  }
  return sizes;
}

// {-2: null, -4: null, type: static}: what the affine cache formats use; a bias of other axes would
// be another format.
bool read_bias(const YamlValue& value) {
  if (value.is_null()) return false;
  value.only_keys({"-2", "-4", "type", "method"});
  for (const char* axis : {"-2", "-4"}) {
    const YamlValue* block = value.find(axis);
    if (block == nullptr || !block->is_null()) {
      value.fail("a bias is supported over the whole axes -2 and -4 only");
    }
  }
  if (const YamlValue* type = value.find("type"); type != nullptr && read_is_dynamic(*type)) {
    type->fail("a dynamic bias is not supported");
  }
  if (const YamlValue* method = value.find("method")) {
    if (method->as<std::string>("a method") != "mean") method->fail("a bias is the mean only");
  }
  return true;
}

void read_axis(const YamlValue& value, Quantizer& quantizer) {
  quantizer.axis.reset();
  if (value.is_null()) return;
  if (value.is_list() && value.items.size() != 1) value.fail("several axes are not supported");
  const YamlValue& axis = value.is_list() ? value.items.front() : value;
  quantizer.axis = axis.as<int64_t>("an axis or null");
  if (*quantizer.axis < -8 || *quantizer.axis > 7) axis.fail("axis must be -8 to 7");
}

void read_codebook(const YamlValue& value, Quantizer& quantizer) {
  quantizer.codebook = value.as<std::string>("the name of a table");
  if (quantizer.codebook != "nf4") {
    value.fail(concat("unknown codebook '", quantizer.codebook, "'; supported: nf4"));
  }
}

void read_constant_amax(const YamlValue& value, Quantizer& quantizer) {
  quantizer.constant_amax.reset();
  if (value.is_null()) return;
  quantizer.constant_amax = value.as<double>("a number");
  if (*quantizer.constant_amax <= 0) value.fail("constant_amax must be positive");
}

// Supported only with the value that changes nothing.
void refuse_true(const YamlValue& value, const char* name) {
  if (value.as<bool>("true or false")) value.fail(concat(name, ": true is not supported"));
}

void read_calibrator(const YamlValue& value, Quantizer& /*quantizer*/) {
  if (!value.is_scalar() || value.text != "max") {
    value.fail("calibrator: only max is supported; other scales come from the algorithm");
  }
}

struct Attribute {
  const char* name;
  void (*read)(const YamlValue& value, Quantizer& quantizer);
};

const Attribute kAttributes[] = {
    {"enable", [](const YamlValue& v, Quantizer& q) { q.enable = v.as<bool>("true or false"); }},
    {"num_bits", [](const YamlValue& v, Quantizer& q) { q.num_bits = read_number_format(v); }},
    {"axis", &read_axis},
    {"block_sizes",
     [](const YamlValue& v, Quantizer& q) {
       if (!v.is_null()) q.block_sizes = read_block_sizes(v, q);
     }},
    {"type", [](const YamlValue& v, Quantizer& q) { q.dynamic = read_is_dynamic(v); }},
    {"use_constant_amax",
     [](const YamlValue& v, Quantizer& q) { q.use_constant_amax = v.as<bool>("true or false"); }},
    {"constant_amax", &read_constant_amax},
    {"bias", [](const YamlValue& v, Quantizer& q) { q.bias = read_bias(v); }},
    {"rotate", [](const YamlValue& v, Quantizer& q) { q.rotate = v.as<bool>("true or false"); }},
    {"codebook", &read_codebook},
    {"calibrator", &read_calibrator},
    {"unsigned", [](const YamlValue& v, Quantizer&) { refuse_true(v, "unsigned"); }},
    {"narrow_range", [](const YamlValue& v, Quantizer&) { refuse_true(v, "narrow_range"); }},
    {"learn_amax", [](const YamlValue& v, Quantizer&) { refuse_true(v, "learn_amax"); }},
    // Nothing below changes what is calibrated or written.
    {"fake_quant", [](const YamlValue& v, Quantizer&) { v.as<bool>("true or false"); }},
    {"pass_through_bwd", [](const YamlValue& v, Quantizer&) { v.as<bool>("true or false"); }},
    {"trt_high_precision_dtype",
     [](const YamlValue& v, Quantizer&) { v.as<std::string>("a type"); }},
    {"effective_bits",
     [](const YamlValue& v, Quantizer&) {
       if (!v.is_null()) v.as<double>("a number of bits");
     }},
};

Quantizer read_quantizer(const YamlValue& map) {
  if (!map.is_map()) map.fail("expected a mapping");
  if (map.entries.empty()) map.fail("cfg must not be empty");
  Quantizer quantizer;
  quantizer.enable = true;
  for (const YamlEntry& entry : map.entries) {
    const Attribute* found = nullptr;
    std::vector<std::string> known;
    for (const Attribute& attribute : kAttributes) {
      if (entry.key == attribute.name) found = &attribute;
      known.emplace_back(attribute.name);
    }
    if (found == nullptr) {
      entry.place.fail(concat("unknown key '", entry.key, "'", nearest_hint(entry.key, known)));
    }
    found->read(entry.value, quantizer);
  }
  if (quantizer.axis && quantizer.block_sizes) {
    map.fail("axis and block_sizes exclude each other");
  }
  return quantizer;
}

Json to_json(const NumberFormat& format) {
  if (format.exponent_bits == 0) return format.bits;
  return concat("e", format.exponent_bits, "m", format.bits);
}

Json block_size_json(int64_t size) {
  return size == kWholeAxis ? Json() : Json(size);
}

Json block_sizes_json(const Quantizer& quantizer) {
  const BlockSizes& sizes = *quantizer.block_sizes;
  Json json;
  json["-1"] = block_size_json(sizes.last);
  if (sizes.second_last != 0) json["-2"] = block_size_json(sizes.second_last);
  json["type"] = sizes.dynamic ? "dynamic" : "static";
  if (sizes.scale_bits) json["scale_bits"] = to_json(*sizes.scale_bits);
  if (quantizer.scale_block) {
    json["scale_block_sizes"]["-1"] = block_size_json(*quantizer.scale_block);
  }
  if (quantizer.four_over_six) json["four_over_six"] = true;
  return json;
}

}  // namespace

std::vector<Quantizer> read_quantizers(const YamlValue& cfg) {
  if (!cfg.is_list()) return {read_quantizer(cfg)};
  if (cfg.items.empty()) cfg.fail("cfg must not be empty");
  if (cfg.items.size() > kMaxStages) cfg.fail(concat("more than ", kMaxStages, " stages"));
  std::vector<Quantizer> stages;
  for (const YamlValue& stage : cfg.items) stages.push_back(read_quantizer(stage));
  return stages;
}

Json to_json(const Quantizer& quantizer) {
  Json json;
  json["enable"] = quantizer.enable;
  json["num_bits"] = to_json(quantizer.num_bits);
  if (quantizer.axis) json["axis"] = *quantizer.axis;
  if (quantizer.block_sizes) json["block_sizes"] = block_sizes_json(quantizer);
  if (quantizer.dynamic) json["type"] = "dynamic";
  if (quantizer.use_constant_amax) json["use_constant_amax"] = true;
  if (quantizer.constant_amax) json["constant_amax"] = *quantizer.constant_amax;
  if (quantizer.bias) json["bias"] = Json{{"-2", nullptr}, {"-4", nullptr}, {"type", "static"}};
  if (quantizer.rotate) json["rotate"] = true;
  if (!quantizer.codebook.empty()) json["codebook"] = quantizer.codebook;
  return json;
}

}  // namespace halftone
