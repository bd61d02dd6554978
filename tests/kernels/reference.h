#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/dtype.h"

// The specification written down a second time, plainly: values are doubles, rounding is
// std::nearbyint in units of the last place, codes are found by search. No line is shared with
// kernels/. All names are those of formats-and-hf-export.md, section 2.
namespace halftone::reference {

// A binary format: significand bits after the point, exponent of the smallest normal number, and
// the largest finite value.
struct Format {
  int mantissa;
  int min_exponent;
  double largest;
};

inline constexpr Format kBF16{7, -126, 0x1.fep127};
inline constexpr Format kF16{10, -14, 65504.0};
inline constexpr Format kE4M3{3, -6, 448.0};
inline constexpr Format kE2M1{1, 0, 6.0};

// Round to nearest even as if the exponent had no upper bound. Exact: v has at most 53 bits.
inline double round_unbounded(double v, const Format& format) {
  if (v == 0.0 || !std::isfinite(v)) return v;
  const int exponent = std::max(std::ilogb(v), format.min_exponent);
  const double unit = std::ldexp(1.0, exponent - format.mantissa);
  return std::nearbyint(v / unit) * unit;
}

// IEEE rounding: above the largest finite value is infinity.
inline double round_ieee(double v, const Format& format) {
  const double rounded = round_unbounded(v, format);
  return std::abs(rounded) > format.largest
             ? std::copysign(std::numeric_limits<double>::infinity(), v)
             : rounded;
}

// Value of a sign-exponent-mantissa code without infinities and NaN.
inline double decode(uint32_t code, int mantissa, int min_exponent) {
  const uint32_t fraction = code & ((1u << mantissa) - 1u);
  const int exponent = static_cast<int>(code >> mantissa);
  const double significand = exponent == 0 ? fraction : fraction + (1u << mantissa);
  return std::ldexp(significand, std::max(exponent, 1) - 1 + min_exponent - mantissa);
}

inline double decode_16(uint16_t bits, const Format& format) {
  const uint32_t magnitude = bits & 0x7fffu;
  const uint32_t infinity = 0x7fffu >> format.mantissa << format.mantissa;
  double value = decode(magnitude, format.mantissa, format.min_exponent);
  if (magnitude == infinity) value = std::numeric_limits<double>::infinity();
  if (magnitude > infinity) return std::numeric_limits<double>::quiet_NaN();
  return (bits & 0x8000u) != 0 ? -value : value;
}

// The 16-bit code whose value is `rounded`, by bisection over the non-negative codes.
inline uint16_t encode_16(double rounded, const Format& format) {
  const uint16_t infinity = static_cast<uint16_t>(0x7fffu >> format.mantissa << format.mantissa);
  if (std::isnan(rounded)) return static_cast<uint16_t>(infinity | (1u << (format.mantissa - 1)));
  uint32_t low = 0;
  uint32_t high = infinity;
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    const bool below = decode_16(static_cast<uint16_t>(middle), format) < std::abs(rounded);
    (below ? low : high) = below ? middle + 1 : middle;
  }
  return static_cast<uint16_t>(low | (std::signbit(rounded) ? 0x8000u : 0u));
}

inline const Format& format_of(DType dtype) {
  return dtype == DType::kBF16 ? kBF16 : kF16;
}

inline double load(DType dtype, const void* data, int64_t i) {
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, static_cast<const char*>(data) + 4 * i, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, static_cast<const char*>(data) + 2 * i, 2);
  return decode_16(bits, format_of(dtype));
}

inline void store(DType dtype, double value, void* data, int64_t i) {
  if (dtype == DType::kF32) {
    float single = static_cast<float>(value);
    if (std::isnan(value)) single = std::numeric_limits<float>::quiet_NaN();
    std::memcpy(static_cast<char*>(data) + 4 * i, &single, 4);
  } else {
    const Format& format = format_of(dtype);
    const uint16_t bits = encode_16(round_ieee(value, format), format);
    std::memcpy(static_cast<char*>(data) + 2 * i, &bits, 2);
  }
}

inline double round_to(DType dtype, double value) {
  return dtype == DType::kF32 ? static_cast<float>(value) : round_ieee(value, format_of(dtype));
}

// fp32(a / b) and fp32(a * b) of fp32 values. A double holds the product exactly, and its quotient,
// rounded again, is the right fp32 one (53 >= 2 * 24 + 2).
inline double divide(double a, double b) {
  return static_cast<float>(a / b);
}
inline double multiply(double a, double b) {
  return static_cast<float>(a * b);
}

inline uint8_t e4m3(double v) {
  if (std::isnan(v)) return 0x7f;
  const uint8_t sign = std::signbit(v) ? 0x80 : 0;
  if (std::abs(v) > 464.0) return sign | 0x7f;
  const double rounded = std::abs(round_unbounded(v, kE4M3));
  for (uint32_t code = 0; code < 0x7f; ++code) {
    if (decode(code, 3, -6) == rounded) return static_cast<uint8_t>(sign | code);
  }
  return sign | 0x7e;  // 464 itself rounds to 448 (its even neighbour); not reached otherwise
}

inline double of_e4m3(uint8_t code) {
  if ((code & 0x7f) == 0x7f) return std::numeric_limits<double>::quiet_NaN();
  const double value = decode(code & 0x7fu, 3, -6);
  return (code & 0x80) != 0 ? -value : value;
}

inline constexpr std::array<double, 8> kE2M1Values{0, .5, 1, 1.5, 2, 3, 4, 6};

// 2.9's reference procedure, word for word.
inline uint8_t e2m1(double x) {
  if (std::isnan(x)) return 7;
  constexpr std::array<double, 7> kBounds{.25, .75, 1.25, 1.75, 2.5, 3.5, 5};
  const double a = std::abs(x);
  uint8_t index = 0;
  for (const double bound : kBounds) index += bound < a ? 1 : 0;
  if (a == .75 || a == 1.75 || a == 3.5) ++index;
  return static_cast<uint8_t>((x < 0 ? 8 : 0) | index);
}

inline double of_e2m1(uint8_t code) {
  return (code & 8) != 0 ? -kE2M1Values[code & 7u] : kE2M1Values[code & 7u];
}

// 2.3.
inline uint8_t fp8_code(DType dtype, double w, double scale) {
  return e4m3(round_to(dtype, divide(w, scale)));
}

// calibration.md, 3.1.
inline double fake_fp8(double x, double amax) {
  const double a = amax <= 0x1p-24 ? 1.0 : amax;
  const double s = divide(448.0, a);
  const double scaled = multiply(x, s);
  if (std::isnan(scaled)) return scaled;
  return multiply(of_e4m3(e4m3(std::clamp(scaled, -448.0, 448.0))), divide(1.0, s));
}

// 2.6.
inline int8_t int8_code(double w, double scale) {
  const double quotient = divide(w, scale);
  if (std::isnan(quotient)) return 0;
  return static_cast<int8_t>(std::clamp(std::nearbyint(quotient), -128.0, 127.0));
}

// 2.9, the scale of a block whose amax is `amax` (NaN if it holds one).
inline uint8_t nvfp4_scale(double amax, double scale_2) {
  double ps = divide(amax, multiply(6.0, scale_2));
  if (std::isnan(ps)) return 0x7f;
  if (ps == 0.0) ps = 1.0;
  return e4m3(std::clamp(ps, 0x1p-9, 448.0));
}

inline uint8_t nvfp4_code(double w, uint8_t block_scale, double scale_2) {
  return e2m1(divide(w, multiply(of_e4m3(block_scale), scale_2)));
}

// calibration.md, 3.3, the step of a block.
inline double fake_nvfp4_step(double amax_of_block, double amax) {
  double g = divide(amax, 2688.0);
  if (g <= 0.0) g = static_cast<float>(1e-12);
  const double quotient = divide(amax_of_block, multiply(6.0, g));
  if (std::isnan(quotient)) return quotient;
  const double step = multiply(of_e4m3(e4m3(std::min(quotient, 448.0))), g);
  return step < static_cast<float>(1e-5) ? 1.0 : step;
}

inline double fake_nvfp4(double x, double step) {
  return multiply(of_e2m1(e2m1(divide(x, step))), step);
}

}  // namespace halftone::reference
