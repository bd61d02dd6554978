#pragma once

#include "kernels/integer_elements.h"

namespace halftone {

// An amax to try: x becomes clamp(rint(x * scale), low, high) / scale (calibration.md, 3.2, 5.1).
struct IntCandidate {
  float amax;
  float scale;
  float low;
  float high;
};

// `bound` is 127 or 7. An amax of nothing clamps everything to zero.
HALFTONE_HOST_DEVICE inline IntCandidate int_candidate(float amax, float bound) {
  return is_no_amax(amax) ? IntCandidate{amax, 1.0f, 0.0f, 0.0f}
                          : IntCandidate{amax, bound / amax, -bound - 1.0f, bound};
}

HALFTONE_HOST_DEVICE inline double squared_error(float x, float scale, float low, float high) {
  const float error = x - fake_integer(x, scale, low, high);
  return static_cast<double>(error * error);
}

// What sums of errors are compared by: a NaN is the worst.
HALFTONE_HOST_DEVICE inline double comparable(double sum) {
  return sum == sum ? sum : static_cast<double>(float_of_bits(0x7f800000u));
}

}  // namespace halftone
