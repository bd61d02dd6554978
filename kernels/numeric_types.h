#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/dtype.h"

// Conversions between fp32 and the narrow types, the same lines for the CPU and for CUDA (C++17).
// They are branch-free integer code so that compilers vectorize them. Every narrowing rounds to
// nearest even (formats-and-hf-export.md, 0). A NaN becomes the one positive quiet NaN of its type:
// processors disagree on the sign and payload of a NaN that comes out of arithmetic.

#if defined(__CUDACC__)
#define HALFTONE_HOST_DEVICE __host__ __device__
#else
#define HALFTONE_HOST_DEVICE
#endif

namespace halftone {

HALFTONE_HOST_DEVICE inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

HALFTONE_HOST_DEVICE inline float float_of_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

HALFTONE_HOST_DEVICE inline bool is_nan_bits(uint32_t bits) {
  return (bits & 0x7fffffffu) > 0x7f800000u;
}

HALFTONE_HOST_DEVICE inline float float_of_bf16(uint16_t value) {
  return float_of_bits(static_cast<uint32_t>(value) << 16);
}

HALFTONE_HOST_DEVICE inline uint16_t bf16_of_float(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>(is_nan_bits(bits) ? 0x7fc0u : rounded);
}

HALFTONE_HOST_DEVICE inline float float_of_f16(uint16_t value) {
  const uint32_t sign = static_cast<uint32_t>(value & 0x8000u) << 16;
  const uint32_t shifted = static_cast<uint32_t>(value & 0x7fffu) << 13;
  const uint32_t normal = shifted + (112u << 23);
  // A subnormal's mantissa behind an implicit one: taking that one (2^-14) away is exact.
  const uint32_t subnormal =
      bits_of(float_of_bits(shifted + (113u << 23)) - float_of_bits(113u << 23));
  const uint32_t special = shifted | 0x7f800000u;
  const uint32_t magnitude = shifted < 0x00800000u    ? subnormal
                             : shifted >= 0x0f800000u ? special
                                                      : normal;
  return float_of_bits(sign | magnitude);
}

HALFTONE_HOST_DEVICE inline uint16_t f16_of_float(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t rounded = ((magnitude + 0xfffu + ((magnitude >> 13) & 1u)) >> 13) - (112u << 10);
  const uint32_t normal = magnitude >= 0x47800000u ? 0x7c00u : rounded;
  // fp32 numbers at 0.5 are 2^-24 apart, as subnormal halves are: the addition does the rounding.
  const uint32_t subnormal = bits_of(float_of_bits(magnitude) + 0.5f) - bits_of(0.5f);
  const uint32_t code = sign | (magnitude < 0x38800000u ? subnormal : normal);
  return static_cast<uint16_t>(is_nan_bits(bits) ? 0x7e00u : code);
}

// |v| <= 464 gives at most 448, more (and NaN) gives 0x7f; the sign is always kept
// (formats-and-hf-export.md, 2.3).
HALFTONE_HOST_DEVICE inline uint8_t e4m3_of_float(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t rounded = ((magnitude + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20) - (120u << 3);
  const uint32_t normal = magnitude > 0x43e80000u ? 0x7fu : rounded;
  // fp32 numbers at 2^14 are 2^-9 apart, as subnormal codes are.
  const uint32_t subnormal = bits_of(float_of_bits(magnitude) + 16384.0f) - bits_of(16384.0f);
  const uint32_t code = magnitude < 0x3c800000u ? subnormal : normal;
  return static_cast<uint8_t>(((bits >> 24) & 0x80u) | code);
}

HALFTONE_HOST_DEVICE inline float float_of_e4m3(uint8_t code) {
  const uint32_t sign = static_cast<uint32_t>(code & 0x80u) << 24;
  const uint32_t shifted = static_cast<uint32_t>(code & 0x7fu) << 20;
  const uint32_t normal = shifted + (120u << 23);
  const uint32_t subnormal =
      bits_of(float_of_bits(shifted + (121u << 23)) - float_of_bits(121u << 23));
  const uint32_t magnitude = shifted < 0x00800000u    ? subnormal
                             : shifted == 0x07f00000u ? 0x7fc00000u
                                                      : normal;
  return float_of_bits(sign | magnitude);
}

// Index into {0, .5, 1, 1.5, 2, 3, 4, 6} of the nearest to |value|, ties to the even index, 7 for
// everything above 5 and for NaN (formats-and-hf-export.md, 2.9).
HALFTONE_HOST_DEVICE inline uint32_t e2m1_index_of_float(float value) {
  constexpr uint32_t kSix = 0x40c00000u;
  const uint32_t bits = bits_of(value) & 0x7fffffffu;
  const uint32_t magnitude = bits < kSix ? bits : kSix;
  const uint32_t normal = ((magnitude + 0x1fffffu + ((magnitude >> 22) & 1u)) >> 22) - (126u << 1);
  // fp32 numbers at 2^22 are 0.5 apart.
  const uint32_t subnormal = bits_of(float_of_bits(magnitude) + 4194304.0f) - bits_of(4194304.0f);
  return magnitude < 0x3f800000u ? subnormal : normal;
}

// The sign bit is `value < 0`: both zeros and NaN have none (formats-and-hf-export.md, 2.9).
HALFTONE_HOST_DEVICE inline uint8_t e2m1_of_float(float value) {
  // Of all bit patterns, those of -2^-149 to -infinity.
  const bool negative = bits_of(value) - 0x80000001u < 0x7f800000u;
  return static_cast<uint8_t>((negative ? 8u : 0u) | e2m1_index_of_float(value));
}

HALFTONE_HOST_DEVICE inline float float_of_e2m1(uint32_t code) {
  const uint32_t sign = (code & 8u) << 28;
  const uint32_t shifted = (code & 7u) << 22;
  const uint32_t normal = shifted + (126u << 23);
  const uint32_t subnormal = bits_of(float_of_bits(shifted + (127u << 23)) - 1.0f);
  return float_of_bits(sign | ((code & 7u) < 2u ? subnormal : normal));
}

// The element types of weights and activations. `magnitude` orders |x| as an integer: infinity is
// kInfinity and every NaN is above it. kUnitInF32 is the last place of a normal number in the bits
// of the same fp32 number.
struct F32Element {
  using Storage = float;
  static constexpr DType kDType = DType::kF32;
  static constexpr uint32_t kInfinity = 0x7f800000u;
  static constexpr uint32_t kUnitInF32 = 1u;
  HALFTONE_HOST_DEVICE static float load(float value) { return value; }
  HALFTONE_HOST_DEVICE static float store(float value) {
    const uint32_t bits = bits_of(value);
    return float_of_bits(is_nan_bits(bits) ? 0x7fc00000u : bits);
  }
  HALFTONE_HOST_DEVICE static uint32_t magnitude(float value) {
    return bits_of(value) & 0x7fffffffu;
  }
  HALFTONE_HOST_DEVICE static float of_magnitude(uint32_t bits) { return float_of_bits(bits); }
};

struct BF16Element {
  using Storage = uint16_t;
  static constexpr DType kDType = DType::kBF16;
  static constexpr uint32_t kInfinity = 0x7f80u;
  static constexpr uint32_t kUnitInF32 = 1u << 16;
  HALFTONE_HOST_DEVICE static float load(uint16_t value) { return float_of_bf16(value); }
  HALFTONE_HOST_DEVICE static uint16_t store(float value) { return bf16_of_float(value); }
  HALFTONE_HOST_DEVICE static uint32_t magnitude(uint16_t value) { return value & 0x7fffu; }
  HALFTONE_HOST_DEVICE static float of_magnitude(uint32_t bits) {
    return float_of_bf16(static_cast<uint16_t>(bits));
  }
};

struct F16Element {
  using Storage = uint16_t;
  static constexpr DType kDType = DType::kF16;
  static constexpr uint32_t kInfinity = 0x7c00u;
  static constexpr uint32_t kUnitInF32 = 1u << 13;
  HALFTONE_HOST_DEVICE static float load(uint16_t value) { return float_of_f16(value); }
  HALFTONE_HOST_DEVICE static uint16_t store(float value) { return f16_of_float(value); }
  HALFTONE_HOST_DEVICE static uint32_t magnitude(uint16_t value) { return value & 0x7fffu; }
  HALFTONE_HOST_DEVICE static float of_magnitude(uint32_t bits) {
    return float_of_f16(static_cast<uint16_t>(bits));
  }
};

// T(value) of the specifications.
template <typename Element>
HALFTONE_HOST_DEVICE inline float round_to(float value) {
  return Element::load(Element::store(value));
}

// Calls body(Element{}) for the element type of `dtype`, which is F32, F16 or BF16.
template <typename Body>
void with_element(DType dtype, Body&& body) {
  if (dtype == DType::kBF16) {
    body(BF16Element{});
  } else if (dtype == DType::kF16) {
    body(F16Element{});
  } else {
    body(F32Element{});
  }
}

}  // namespace halftone
