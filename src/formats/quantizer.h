#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace halftone {

// An element type of a quantizer: integers have exponent_bits 0.
struct NumberFormat {
  int exponent_bits = 0;
  int bits = 8;  // of an integer, or mantissa bits of a float

  bool operator==(const NumberFormat&) const = default;
};
inline constexpr NumberFormat kInt8{0, 8};
inline constexpr NumberFormat kE4M3{4, 3};
inline constexpr NumberFormat kE2M1{2, 1};
inline constexpr NumberFormat kE8M0{8, 0};

inline constexpr int64_t kWholeAxis = -1;

struct BlockSizes {
  int64_t last = 0;         // block along the last dimension; 0: none, kWholeAxis: all of it
  int64_t second_last = 0;  // block along the second-last dimension; 0: none
  bool dynamic = false;     // scales follow from the tensor itself
  std::optional<NumberFormat> scale_bits;

  bool operator==(const BlockSizes&) const = default;
};

// The attributes of one quantizer (calibration.md, 2.2). A rule with a configuration replaces all
// of them.
struct Quantizer {
  bool enable = false;
  NumberFormat num_bits = kInt8;
  std::optional<int64_t> axis;
  std::optional<BlockSizes> block_sizes;
  bool dynamic = false;
  bool use_constant_amax = false;
  std::optional<double> constant_amax;
  bool four_over_six = false;
  bool bias = false;
  bool rotate = false;
  std::string codebook;
  std::optional<int64_t> scale_block;

  // On, with scales that calibration finds: neither constant nor found anew at every call.
  bool is_calibrated() const { return enable && !dynamic && !use_constant_amax && !constant_amax; }

  bool operator==(const Quantizer&) const = default;
};

// A quantizer, or several in sequence. Empty or all disabled: off.
struct QuantizerSequence {
  std::vector<Quantizer> stages{Quantizer{}};

  bool enabled() const;
  const Quantizer& only() const { return stages.front(); }
};

// fnmatch: '*' crosses dots, '?' one character, '[abc]' and '[!abc]' sets; the whole name.
bool glob_matches(const std::string& pattern, const std::string& name);

// The quantizers of one linear.
struct LinearQuantizers {
  QuantizerSequence weight;
  QuantizerSequence input;
};

}  // namespace halftone
