#include "model/rope.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace halftone {
namespace {

using Kind = RopeConfig::Kind;

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

// YaRN: frequencies that turn more than beta_fast times in the original length stay, those that
// turn less than beta_slow times are divided by the factor, a ramp between them.
at::Tensor scale_yarn(const RopeConfig& config, const at::Tensor& power, int64_t dim) {
  const auto dimension_of = [&](double rotations) {
    return static_cast<double>(dim) *
           std::log(config.original_max_positions / (rotations * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(config.theta));
  };
  double low = dimension_of(config.beta_fast);
  double high = dimension_of(config.beta_slow);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  const at::Tensor ramp = ((at::arange(dim / 2, at::kFloat) - low) / (high - low)).clamp(0.0, 1.0);
  const at::Tensor kept = 1.0 - ramp;
  return 1.0 / (config.factor * power) * (1.0 - kept) + 1.0 / power * kept;
}

at::Tensor inverse_frequencies(const RopeConfig& config, int64_t dim, bool beyond) {
  const at::Tensor exponents =
      at::arange(0, dim, 2, at::kLong).to(at::kFloat) / static_cast<double>(dim);
  const at::Tensor power = at::pow(config.theta, exponents);
  switch (config.kind) {
    case Kind::kDefault:
      break;
    case Kind::kLinear:
      return 1.0 / power / config.factor;
    case Kind::kLlama3:
      return scale_llama3(config, 1.0 / power);
    case Kind::kYarn:
      return scale_yarn(config, power, dim);
    case Kind::kLongRope: {
      const auto& factors = beyond ? config.long_factors : config.short_factors;
      return 1.0 / (at::tensor(factors, at::kDouble).to(at::kFloat) * power);
    }
  }
  return 1.0 / power;
}

}  // namespace

RopeTable make_rope(const RopeConfig& config, int64_t dim, int64_t length, at::ScalarType dtype,
                    at::Device device, bool beyond) {
  const at::Tensor inverse_frequency = inverse_frequencies(config, dim, beyond);
  const double multiplier = beyond ? config.long_multiplier : config.multiplier;
  const at::Tensor positions = at::arange(length, at::kFloat);
  const at::Tensor half = positions.unsqueeze(1) * inverse_frequency.unsqueeze(0);
  const at::Tensor angles = at::cat({half, half}, -1);
  return {(angles.cos() * multiplier).to(dtype).to(device),
          (angles.sin() * multiplier).to(dtype).to(device)};
}

at::Tensor apply_rope(const at::Tensor& x_BHTD, const RopeTable& table, RopeLayout layout) {
  const int64_t length = x_BHTD.size(2);
  const int64_t dim = table.cos_TD.size(-1);
  const int64_t half = dim / 2;
  if (dim < x_BHTD.size(3)) {
    return at::cat({apply_rope(x_BHTD.slice(-1, 0, dim), table, layout), x_BHTD.slice(-1, dim)},
                   -1);
  }
  const at::Tensor cos_TD = table.cos_TD.slice(-2, 0, length);
  const at::Tensor sin_TD = table.sin_TD.slice(-2, 0, length);
  if (layout == RopeLayout::kHalves) {
    const at::Tensor rotated =
        at::cat({-x_BHTD.slice(-1, half), x_BHTD.slice(-1, 0, half)}, /*dim=*/-1);
    return x_BHTD * cos_TD + rotated * sin_TD;
  }
  const at::Tensor even = x_BHTD.slice(-1, 0, std::nullopt, 2);
  const at::Tensor odd = x_BHTD.slice(-1, 1, std::nullopt, 2);
  const at::Tensor cos = cos_TD.slice(-1, 0, half);
  const at::Tensor sin = sin_TD.slice(-1, 0, half);
  const at::Tensor first = even * cos - odd * sin;
  const at::Tensor second = odd * cos + even * sin;
  if (layout == RopeLayout::kPairsToHalves) return at::cat({first, second}, -1);
  return at::stack({first, second}, -1).flatten(-2);
}

void Rope::prepare(int64_t length, at::ScalarType dtype, at::Device device) {
  within_ = make_rope(config_, dim_, length, dtype, device);
  if (config_.kind != Kind::kLongRope) return;
  if (static_cast<double>(length) <= config_.original_max_positions) return;
  beyond_ = make_rope(config_, dim_, length, dtype, device, /*beyond=*/true);
}

at::Tensor Rope::apply(const at::Tensor& x_BHTD, const BatchContext& batch) const {
  if (batch.positions_BT.defined()) return apply_rope(x_BHTD, of_rows(batch), layout_);
  const int64_t length =
      batch.sequence_lengths.empty() ? batch.past + batch.length : batch.sequence_lengths.front();
  const RopeTable& table = length > position_break() ? beyond_ : within_;
  return apply_rope(x_BHTD, {table.cos_TD.slice(0, batch.past), table.sin_TD.slice(0, batch.past)},
                    layout_);
}

// [B, 1, T, D]: each row's own positions, in the table that its length asks for.
RopeTable Rope::of_rows(const BatchContext& batch) const {
  const at::Tensor index = batch.positions_BT.to(within_.cos_TD.device()).flatten();
  const std::vector<int64_t> shape = {batch.positions_BT.size(0), 1, batch.length, -1};
  const auto rows_of = [&](const RopeTable& table) {
    return RopeTable{table.cos_TD.index_select(0, index).view(shape),
                     table.sin_TD.index_select(0, index).view(shape)};
  };
  const RopeTable within = rows_of(within_);
  if (!beyond_.cos_TD.defined()) return within;
  const at::Tensor longer_B111 = at::tensor(batch.sequence_lengths, at::kLong)
                                     .gt(position_break())
                                     .view({-1, 1, 1, 1})
                                     .to(index.device());
  const RopeTable beyond = rows_of(beyond_);
  return {at::where(longer_B111, beyond.cos_TD, within.cos_TD),
          at::where(longer_B111, beyond.sin_TD, within.sin_TD)};
}

int64_t Rope::position_break() const {
  if (config_.kind != Kind::kLongRope) return INT64_MAX;
  return static_cast<int64_t>(config_.original_max_positions);
}

}  // namespace halftone
