#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/context.h"
#include "tests/kernels/reference.h"

// reference.h for the formats with a scale per block: static NVFP4, MX and NF4. Blocks are vectors
// of doubles that hold fp32 values.
namespace halftone::reference {

using Block = std::vector<double>;

inline double add(double a, double b) {
  return static_cast<float>(a + b);
}

inline double divide_by_constant(double a, double constant, Numerics numerics) {
  return numerics == Numerics::kCpu ? divide(a, constant) : multiply(a, divide(1.0, constant));
}

// NaN if there is one.
inline double amax_of(const Block& block) {
  double amax = 0.0;
  for (const double x : block) {
    if (std::isnan(x)) return x;
    amax = std::max(amax, std::abs(x));
  }
  return amax;
}

// formats-and-hf-export.md, 2.10.
inline uint8_t static_nvfp4_scale(double amax, double global_amax, double m, Numerics numerics) {
  double ps = divide_by_constant(amax, 6.0, numerics);
  if (std::isnan(ps)) return 0x7f;
  if (ps == 0.0) ps = 1.0;
  const double v = divide(multiply(ps, m), divide_by_constant(global_amax, 6.0, numerics));
  return e4m3(std::clamp(v, 0x1p-9, 448.0));
}

// calibration.md, 3.4: what a block becomes.
inline Block fake_static_nvfp4(const Block& w, double amax, double global_amax, double m) {
  const double s = divide(448.0, divide(multiply(global_amax, divide(448.0, m)), 6.0));
  const double scaled = multiply(divide(amax, 6.0), s);
  const double rounded = of_e4m3(e4m3(std::clamp(scaled, -448.0, 448.0)));
  const double scale = multiply(rounded, divide(1.0, s));
  Block y;
  for (const double x : w) {
    const bool usable = scale > 0.0 && std::isfinite(scale);
    y.push_back(usable ? multiply(of_e2m1(e2m1(divide(x, scale))), scale) : 0.0);
  }
  return y;
}

// The error of calibration.md, 5.1, or with a Hessian [16][16] 5.3.
inline double search_error(const Block& w, const Block& y, const float* hessian) {
  Block dw;
  for (size_t i = 0; i < w.size(); ++i) dw.push_back(add(w[i], -y[i]));
  double error = 0.0;
  for (size_t i = 0; i < dw.size(); ++i) {
    double product = hessian == nullptr ? dw[i] : 0.0;
    for (size_t j = 0; hessian != nullptr && j < dw.size(); ++j) {
      product = add(product, multiply(hessian[i * dw.size() + j], dw[j]));
    }
    error = add(error, multiply(dw[i], product));
  }
  return error;
}

inline double search_nvfp4_block(const Block& w, double base, double global_amax, double m,
                                 const std::vector<float>& candidates, const float* hessian) {
  double least = std::numeric_limits<double>::infinity();
  double best = multiply(base, candidates[0]);
  for (const float candidate : candidates) {
    const double amax = multiply(base, candidate);
    const Block y = fake_static_nvfp4(w, amax, global_amax, m);
    const double error = search_error(w, y, hessian);
    if (error < least) {
      least = error;
      best = amax;
    }
  }
  return std::isnan(best) ? std::numeric_limits<double>::quiet_NaN() : best;
}

// 2.12. The exponent that is stored, for an amax: the smallest e with amax / largest <= 2^e.
inline uint8_t mx_scale(double amax, double largest) {
  const double v = divide(amax, largest);
  if (std::isnan(v)) return 255;
  int e = -127;
  while (e < 127 && std::ldexp(1.0, e) < v) ++e;
  return static_cast<uint8_t>(e + 127);
}

inline double of_e8m0(uint8_t code) {
  return code == 255 ? std::numeric_limits<double>::quiet_NaN() : std::ldexp(1.0, code - 127);
}

inline uint8_t mxfp4_code(double w, uint8_t scale) {
  const double x = static_cast<float>(w / of_e8m0(scale));
  if (std::isnan(x)) return 0xf;
  int nearest = 0;
  for (int i = 1; i < 8; ++i) {
    const auto distance = [&](int k) {
      return std::abs(std::abs(x) - kE2M1Values[static_cast<size_t>(k)]);
    };
    if (std::isinf(x) || distance(i) < distance(nearest)) nearest = i;
  }
  return static_cast<uint8_t>((x > 0.0 ? 0 : 8) | nearest);
}

inline uint8_t mxfp8_code(double w, uint8_t scale) {
  const double x = static_cast<float>(w / of_e8m0(scale));
  return std::isnan(x) ? uint8_t{0x7f} : e4m3(std::clamp(x, -448.0, 448.0));
}

// calibration.md, 3.6.
inline uint8_t fake_mx_scale(const Block& x, double largest) {
  const double amax = amax_of(x);
  return amax > 0.0 && std::isfinite(amax) ? mx_scale(amax, largest) : uint8_t{127};
}

inline double fake_mxfp4(double x, uint8_t scale) {
  if (std::isnan(x)) return x;
  return multiply(of_e2m1(e2m1(static_cast<float>(x / of_e8m0(scale)))), of_e8m0(scale));
}

inline double fake_mxfp8(double x, uint8_t scale) {
  return multiply(of_e4m3(mxfp8_code(x, scale)), of_e8m0(scale));
}

// nf4.h: bitsandbytes' way. `whole` is false in a shorter last block.
inline uint8_t nf4_code(double x, double absmax, bool whole, const std::vector<float>& table) {
  const double divisor = std::max(absmax, static_cast<double>(1e-38f));
  const double scaled = whole ? multiply(x, divide(1.0, divisor)) : divide(x, divisor);
  uint8_t code = 0;
  if (std::isnan(absmax)) return code;
  while (code < 15 && scaled > divide(add(table[code], table[code + 1u]), 2.0)) ++code;
  return code;
}

// Model Optimizer's (2.14), in `dtype`.
inline uint8_t nf4_code_in_own_type(DType dtype, double x, double absmax,
                                    const std::vector<float>& table) {
  const double scaled = round_to(dtype, absmax == 0.0 ? 0.0 : divide(x, absmax));
  uint8_t nearest = 0;
  const auto distance = [&](uint8_t code) {
    return std::abs(round_to(dtype, add(scaled, -round_to(dtype, table[code]))));
  };
  for (uint8_t code = 1; code < 16; ++code) {
    if (distance(code) < distance(nearest)) nearest = code;
  }
  return nearest;
}

}  // namespace halftone::reference
