#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace halftone {

// An element type of a quantizer: integers have exponent_bits 0.
struct NumberFormat {
  int exponent_bits = 0;
  int bits = 8;  // of an integer, or mantissa bits of a float

  bool operator==(const NumberFormat&) const = default;
};
inline constexpr NumberFormat kInt4{0, 4};
inline constexpr NumberFormat kInt8{0, 8};
inline constexpr NumberFormat kE4M3{4, 3};
inline constexpr NumberFormat kE2M1{2, 1};
inline constexpr NumberFormat kE3M2{3, 2};
inline constexpr NumberFormat kE8M0{8, 0};

// A block that is as long as its dimension.
inline constexpr int64_t kWholeAxis = -1;

struct BlockSizes {
  int64_t last = 0;         // block along the last dimension; 0: none; kWholeAxis
  int64_t second_last = 0;  // block along the second-last dimension; 0: none; kWholeAxis
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
  // Block scales are normalised to 256, so that a block may map its maximum to 4 (calibration.md,
  // 5.2).
  bool four_over_six = false;
  // A static bias per head and channel: the mean over batch and tokens (calibration.md, 6).
  bool bias = false;
  // Hadamard rotation of the last dimension, also where the quantizer is off.
  bool rotate = false;
  // "nf4": codes are indices of that table instead of numbers. Empty: numbers.
  std::string codebook;
  // Double quantization: how many block scales share one scale of their own.
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

// Python's fnmatch: '*' crosses dots, '?' one character, '[abc]', '[a-c]' and '[!abc]' sets, no
// escapes; the whole name. Time is at most the product of both lengths.
bool glob_matches(std::string_view pattern, std::string_view name);

// The quantizers of one linear.
struct LinearQuantizers {
  QuantizerSequence weight;
  QuantizerSequence input;
};

}  // namespace halftone
