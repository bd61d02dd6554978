#include "export/int4_target.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/log.h"
#include "formats/codecs.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

int64_t member(const Json& config, const std::vector<const char*>& keys,
               const std::string& source) {
  for (const char* key : keys) {
    if (config.contains(key)) return json_member<int64_t>(config, key, source);
  }
  throw InputError(concat(source, ": quantization_config has no '", keys.front(), "'"));
}

}  // namespace

std::string int4_problem(const LinearSite& linear, const LinearFormat& format) {
  const bool int4 = format.codec->name().starts_with("int4") && !format.input.quantized();
  if (!int4) {
    return concat("is ", format_name(format), ", but the layout holds INT4 weights alone: choose ",
                  "int4_awq or another INT4 format,");
  }
  if (linear.out % 8 == 0 && linear.in % 8 == 0) return "";
  return concat("is [", linear.out, ", ", linear.in,
                "], but the layout needs multiples of 8: ", "leave it out with a --recipe,");
}

int64_t int4_group(const QuantizedModules& modules, const std::vector<StagePlan>& stages) {
  const QuantizedModules::Module& first = modules.quantized.front();
  return stages[first.stage].linears[first.linear].codec->block();
}

StoredQuantization read_int4(const Json& config, const std::vector<const char*>& bits,
                             const std::vector<const char*>& group, const std::string& source) {
  const int64_t found_bits = member(config, bits, source);
  const int64_t found_group = member(config, group, source);
  if (found_bits != 4 || found_group < 1) {
    throw InputError(concat(source, ": quantization_config says ", found_bits,
                            " bits in groups of ", found_group,
                            "; only 4 bits in groups of 1 or more can be read"));
  }
  StoredQuantization stored;
  stored.uniform = {"int4_awq", found_group, true};
  stored.uniform.format.codec = make_int4_codec(found_group, false);
  stored.uniform.format.smoothing = Smoothing::kAwq;
  return stored;
}

at::Tensor int4_scales(const std::string& module, const at::Tensor& scale_NG, DType dtype) {
  const at::ScalarType type = scalar_type_of(dtype);
  const at::Tensor scale_GN = scale_NG.t().contiguous();
  const at::Tensor stored = scale_GN.to(type);
  if (!at::isfinite(stored).all().item<bool>()) {
    throw InputError(concat("'", module, "' has a scale of ", scale_GN.max().item<float>(),
                            ", which ", name_of(dtype), " cannot hold: use --target ",
                            "compressed-tensors"));
  }
  constexpr double kSmallestF16 = 0x1p-24;
  return at::where(stored > 0, stored, at::full_like(stored, kSmallestF16));
}

}  // namespace halftone
