#pragma once

#include "formats/quantizer.h"

// The numeric building blocks of formats-and-hf-export.md, 1.1.
namespace halftone::test {

inline Quantizer quantizer_with(const NumberFormat& bits) {
  Quantizer quantizer;
  quantizer.enable = true;
  quantizer.num_bits = bits;
  return quantizer;
}

inline Quantizer quantizer_with(const NumberFormat& bits, const BlockSizes& sizes) {
  Quantizer quantizer = quantizer_with(bits);
  quantizer.block_sizes = sizes;
  return quantizer;
}

inline Quantizer per_channel(const NumberFormat& bits) {
  Quantizer quantizer = quantizer_with(bits);
  quantizer.axis = 0;
  return quantizer;
}

inline Quantizer nvfp4_quantizer(int64_t block = 16, bool dynamic = true) {
  return quantizer_with(kE2M1, {block, 0, dynamic, kE4M3});
}

inline Quantizer mx_quantizer(const NumberFormat& bits) {
  return quantizer_with(bits, {32, 0, true, kE8M0});
}

inline Quantizer int4_quantizer() {
  return quantizer_with(kInt4, {128, 0, false, std::nullopt});
}

inline Quantizer fp8_2d_quantizer() {
  return quantizer_with(kE4M3, {128, 128, false, std::nullopt});
}

inline Quantizer fp8_per_token_quantizer() {
  Quantizer quantizer = quantizer_with(kE4M3, {kWholeAxis, 0, false, std::nullopt});
  quantizer.dynamic = true;
  return quantizer;
}

inline Quantizer four_over_six_quantizer() {
  Quantizer quantizer = nvfp4_quantizer(16, false);
  quantizer.four_over_six = true;
  return quantizer;
}

inline Quantizer nf4_quantizer() {
  Quantizer quantizer = quantizer_with(kInt4, {64, 0, false, kInt8});
  quantizer.scale_block = 256;
  quantizer.codebook = "nf4";
  return quantizer;
}

}  // namespace halftone::test
