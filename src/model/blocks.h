#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "core/json.h"
#include "model/model.h"

namespace halftone {

// Root mean square norm: x / rms(x) in fp32, rounded to x's dtype, times the weight.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight_H, double epsilon);

// Rotary embedding (Su et al. 2021) with the frequency scalings of published configurations.
struct RopeConfig {
  enum class Kind { kDefault, kLinear, kLlama3 };
  Kind kind = Kind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  double original_max_positions = 8192.0;
};
// Both spellings: rope_theta + rope_scaling, and rope_parameters. Unknown types are InputErrors.
RopeConfig read_rope(const Json& config, const std::string& source);

// cos and sin, each [length, dim] in `dtype`, the halves equal as in Hugging Face's models.
struct RopeTable {
  at::Tensor cos_TD;
  at::Tensor sin_TD;
};
RopeTable make_rope(const RopeConfig& config, int64_t dim, int64_t length, at::ScalarType dtype,
                    at::Device device);
// x [B, heads, T, dim]
at::Tensor apply_rope(const at::Tensor& x_BHTD, const RopeTable& table);

// Which keys a query may see: causal, and no padding. Undefined for a batch without padding, whose
// attention is plainly causal. [B, 1, T, T] of bool otherwise; a padding query sees nothing, and
// its attention output is 0 (calibration.md, 1.4).
at::Tensor attention_mask(const BatchContext& batch, at::Device device);

// Scaled dot-product attention; queries may have a multiple of the keys' heads.
at::Tensor attention(const at::Tensor& q_BHTD, const at::Tensor& k_BGTD, const at::Tensor& v_BGTD,
                     const at::Tensor& mask, double scale);

}  // namespace halftone
