#include "model/blocks.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

// Llama 3's frequency bands: long wavelengths are divided by the factor, short ones kept, those
// between interpolated.
at::Tensor scale_llama3(const RopeConfig& config, const at::Tensor& inverse_frequency) {
  const double low = config.original_max_positions / config.low_freq_factor;
  const double high = config.original_max_positions / config.high_freq_factor;
  const at::Tensor wavelength = 2.0 * std::numbers::pi / inverse_frequency;
  const at::Tensor scaled =
      at::where(wavelength > low, inverse_frequency / config.factor, inverse_frequency);
  // Equal factors leave no middle band, and their interpolation is 0/0.
  if (config.low_freq_factor == config.high_freq_factor) return scaled;
  const at::Tensor smooth = (config.original_max_positions / wavelength - config.low_freq_factor) /
                            (config.high_freq_factor - config.low_freq_factor);
  const at::Tensor between = (1.0 - smooth) * scaled / config.factor + smooth * scaled;
  const at::Tensor is_between =
      at::logical_and(at::logical_not(wavelength < high), at::logical_not(wavelength > low));
  return at::where(is_between, between, scaled);
}

RopeConfig::Kind rope_kind(const std::string& type, const std::string& source) {
  if (type == "default") return RopeConfig::Kind::kDefault;
  if (type == "linear") return RopeConfig::Kind::kLinear;
  if (type == "llama3") return RopeConfig::Kind::kLlama3;
  throw InputError(concat(source, ": rope type '", type,
                          "' is not supported; supported: default, linear, llama3"));
}

double positive(const Json& object, const char* key, const std::string& source) {
  const auto value = json_member<double>(object, key, source);
  if (!(value > 0.0) || !std::isfinite(value)) {
    throw InputError(concat(source, ": '", key, "' must be positive, found ", value));
  }
  return value;
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight_H, double epsilon) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor variance = wide.pow(2).mean(-1, /*keepdim=*/true);
  return weight_H * (wide * at::rsqrt(variance + epsilon)).to(x.scalar_type());
}

RopeConfig read_rope(const Json& config, const std::string& source) {
  RopeConfig rope;
  Json parameters = Json::object();
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto found = config.find(key);
    if (found == config.end() || found->is_null()) continue;
    if (!found->is_object()) throw InputError(concat(source, ": '", key, "' must be an object"));
    parameters = *found;
  }
  if (config.contains("rope_theta")) rope.theta = positive(config, "rope_theta", source);
  if (parameters.contains("rope_theta")) rope.theta = positive(parameters, "rope_theta", source);
  std::string type = json_member_or<std::string>(parameters, "rope_type", "", source);
  if (type.empty()) type = json_member_or<std::string>(parameters, "type", "default", source);
  rope.kind = rope_kind(type, source);
  if (rope.kind != RopeConfig::Kind::kDefault) rope.factor = positive(parameters, "factor", source);
  if (rope.kind == RopeConfig::Kind::kLlama3) {
    rope.low_freq_factor = positive(parameters, "low_freq_factor", source);
    rope.high_freq_factor = positive(parameters, "high_freq_factor", source);
    rope.original_max_positions = positive(parameters, "original_max_position_embeddings", source);
  }
  return rope;
}

RopeTable make_rope(const RopeConfig& config, int64_t dim, int64_t length, at::ScalarType dtype,
                    at::Device device) {
  const at::Tensor exponents = at::arange(0, dim, 2, at::kLong).to(at::kFloat) / double(dim);
  at::Tensor inverse_frequency = 1.0 / at::pow(config.theta, exponents);
  if (config.kind == RopeConfig::Kind::kLinear) inverse_frequency /= config.factor;
  if (config.kind == RopeConfig::Kind::kLlama3) {
    inverse_frequency = scale_llama3(config, inverse_frequency);
  }
  const at::Tensor positions = at::arange(length, at::kFloat);
  const at::Tensor half = positions.unsqueeze(1) * inverse_frequency.unsqueeze(0);
  const at::Tensor angles = at::cat({half, half}, -1);
  return {angles.cos().to(dtype).to(device), angles.sin().to(dtype).to(device)};
}

at::Tensor apply_rope(const at::Tensor& x_BHTD, const RopeTable& table) {
  const int64_t length = x_BHTD.size(2);
  const int64_t half = x_BHTD.size(3) / 2;
  const at::Tensor rotated =
      at::cat({-x_BHTD.slice(-1, half), x_BHTD.slice(-1, 0, half)}, /*dim=*/-1);
  return x_BHTD * table.cos_TD.slice(0, 0, length) + rotated * table.sin_TD.slice(0, 0, length);
}

at::Tensor attention_mask(const BatchContext& batch, at::Device device) {
  if (!batch.padded) return {};
  const auto rows = static_cast<int64_t>(batch.tokens.size());
  at::Tensor real_BT = at::zeros({rows, batch.length}, at::kBool);
  for (int64_t row = 0; row < rows; ++row) {
    const TokenRange& range = batch.tokens[static_cast<size_t>(row)];
    real_BT[row].slice(0, range.begin, range.end).fill_(true);
  }
  real_BT = real_BT.to(device);
  const at::Tensor causal_TT =
      at::ones({batch.length, batch.length}, at::TensorOptions(at::kBool).device(device)).tril();
  return at::logical_and(causal_TT.unsqueeze(0).unsqueeze(0), real_BT.unsqueeze(1).unsqueeze(1));
}

at::Tensor attention(const at::Tensor& q_BHTD, const at::Tensor& k_BGTD, const at::Tensor& v_BGTD,
                     const at::Tensor& mask, double scale) {
  const bool grouped = q_BHTD.size(1) != k_BGTD.size(1);
  const bool causal = !mask.defined();
  return at::scaled_dot_product_attention(q_BHTD, k_BGTD, v_BGTD,
                                          causal ? std::nullopt : std::optional<at::Tensor>(mask),
                                          /*dropout_p=*/0.0, causal, scale, grouped);
}

}  // namespace halftone
