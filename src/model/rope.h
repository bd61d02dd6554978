#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "core/json.h"
#include "model/model.h"

namespace halftone {

// Rotary embedding (Su et al. 2021) with the frequency scalings of published configurations.
struct RopeConfig {
  enum class Kind { kDefault, kLinear, kLlama3, kYarn, kLongRope };
  Kind kind = Kind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0;  // llama3
  double high_freq_factor = 4.0;
  double original_max_positions = 8192.0;
  double multiplier = 1.0;  // of cos and sin
  double beta_fast = 32.0;  // yarn (Peng et al. 2023)
  double beta_slow = 1.0;
  bool truncate = true;         // yarn: the ramp begins and ends at whole dimensions
  double mscale_all_dim = 0.0;  // yarn: DeepSeek scales the scores by it
  // longrope (Ding et al. 2024): each frequency's divisor within the original length and beyond it.
  std::vector<double> short_factors = {};
  std::vector<double> long_factors = {};
  double long_multiplier = 1.0;  // `multiplier` beyond the original length
  double partial = 1.0;          // share of a head's dimensions that rotate
};

// Which dimensions turn together: i with i + dim/2, or 2i with 2i + 1. Of the latter the result may
// come back as halves, as DeepSeek's code leaves it: dot products then add in its order.
enum class RopeLayout { kHalves, kPairs, kPairsToHalves };

// What a family does without where config.json is silent.
struct RopeDefaults {
  double theta = 10000.0;
  double partial = 1.0;
  double original_max_positions = 0.0;  // 0: max_position_embeddings
};

// Both spellings: rope_theta + rope_scaling, and rope_parameters. Unknown types are InputErrors.
RopeConfig read_rope(const Json& config, const std::string& source,
                     const RopeDefaults& defaults = {});

// The dimensions of a head that rotate; an InputError unless they are even and fit the lists of
// factors.
int64_t rotary_dim(const RopeConfig& rope, int64_t head_dim, const std::string& source);

// cos and sin, each [length, dim] in `dtype`, the halves equal as in Hugging Face's models.
struct RopeTable {
  at::Tensor cos_TD;
  at::Tensor sin_TD;
};
// `beyond`: for sequences longer than the original length (longrope).
RopeTable make_rope(const RopeConfig& config, int64_t dim, int64_t length, at::ScalarType dtype,
                    at::Device device, bool beyond = false);
// x [B, heads, T, dim]; dimensions behind those of the table pass through. The table's first T rows
// are used; it may be one for each row of the batch, [B, 1, T, D].
at::Tensor apply_rope(const at::Tensor& x_BHTD, const RopeTable& table,
                      RopeLayout layout = RopeLayout::kHalves);

// The tables that a model needs for one kind of rotary embedding.
class Rope {
 public:
  Rope(const RopeConfig& config, int64_t dim, RopeLayout layout)
      : config_(config), dim_(dim), layout_(layout) {}

  void prepare(int64_t length, at::ScalarType dtype, at::Device device);
  // x [B, heads, T, dim], T the length of the batch.
  at::Tensor apply(const at::Tensor& x_BHTD, const BatchContext& batch) const;
  // Sequences longer than this have tables of their own.
  int64_t position_break() const;

 private:
  RopeTable of_rows(const BatchContext& batch) const;

  RopeConfig config_;
  int64_t dim_;
  RopeLayout layout_;
  RopeTable within_;
  RopeTable beyond_;  // longrope
};

}  // namespace halftone
