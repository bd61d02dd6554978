#pragma once

#include <vector>

#include "tests/kernels/reference.h"

// reference.h continued: integers, FP8 with one rounding, and the search of an amax.
namespace halftone::reference {

// 2.4, 2.5.
inline uint8_t fp8_code_once(double w, double scale) {
  return e4m3(divide(w, scale));
}

// 2.7, a number from -8 to 7.
inline int int4_code(double w, double scale) {
  const double quotient = divide(w, scale);
  if (std::isnan(quotient)) return 0;
  return static_cast<int>(std::clamp(std::nearbyint(quotient), -8.0, 7.0));
}

// calibration.md, 3.2.
inline double fake_integer(double x, double amax, double bound) {
  if (amax <= 0x1p-24) return 0.0;
  const double scale = divide(bound, amax);
  const double scaled = multiply(x, scale);
  if (std::isnan(scaled)) return scaled;
  return divide(std::clamp(std::nearbyint(scaled), -bound - 1.0, bound), scale);
}

// calibration.md, 5.1: the index of the multiplier whose errors have the smallest sum.
inline size_t best_multiplier(const std::vector<double>& x, double bound, double amax,
                              const std::vector<float>& multipliers) {
  size_t best = 0;
  double smallest = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < multipliers.size(); ++i) {
    double sum = 0.0;
    for (const double value : x) {
      const double error =
          static_cast<float>(value - fake_integer(value, multiply(amax, multipliers[i]), bound));
      sum += multiply(error, error);
    }
    if (sum < smallest) {
      smallest = sum;
      best = i;
    }
  }
  return best;
}

}  // namespace halftone::reference
