#pragma once

#include <cstdint>

#include "kernels/numeric_types.h"

namespace halftone {

inline constexpr int kNf4Entries = 16;

// The two ways of nf4.h. prepare(table, i) is number i of the sixteen that `code` compares with;
// factor_of is what all elements of a block share; `whole` is false in a shorter last block.

struct Nf4ByMidpoints {
  HALFTONE_HOST_DEVICE static float prepare(const float* table, int i) {
    return i + 1 < kNf4Entries ? (table[i] + table[i + 1]) / 2.0f : 0.0f;
  }
  HALFTONE_HOST_DEVICE static float bounded(float absmax) {
    return absmax < 1e-38f ? 1e-38f : absmax;
  }
  HALFTONE_HOST_DEVICE static float stored(float absmax, bool whole) {
    return whole ? absmax : bounded(absmax);
  }
  HALFTONE_HOST_DEVICE static float factor_of(float absmax, bool whole) {
    return whole ? 1.0f / bounded(absmax) : bounded(absmax);
  }
  HALFTONE_HOST_DEVICE static uint8_t code(float w, float factor, bool whole,
                                           const float* midpoints) {
    const float scaled = whole ? w * factor : w / factor;
    uint32_t below = 0;
    for (int i = 0; i + 1 < kNf4Entries; ++i) below += scaled > midpoints[i] ? 1u : 0u;
    return static_cast<uint8_t>(below);
  }
};

template <typename T>
struct Nf4InType {
  HALFTONE_HOST_DEVICE static float prepare(const float* table, int i) {
    return round_to<T>(table[i]);
  }
  HALFTONE_HOST_DEVICE static float stored(float absmax, bool) { return absmax; }
  HALFTONE_HOST_DEVICE static float factor_of(float absmax, bool) {
    return absmax == 0.0f ? 1.0f : absmax;
  }
  HALFTONE_HOST_DEVICE static uint8_t code(float w, float factor, bool, const float* entries) {
    const float scaled = round_to<T>(w / factor);
    uint32_t best = 0;
    float least = 0.0f;
    for (int i = 0; i < kNf4Entries; ++i) {
      const float difference = round_to<T>(scaled - entries[i]);
      const float distance = float_of_bits(bits_of(difference) & 0x7fffffffu);
      const bool nearer = i == 0 || distance < least;
      best = nearer ? static_cast<uint32_t>(i) : best;
      least = nearer ? distance : least;
    }
    return static_cast<uint8_t>(best);
  }
};

}  // namespace halftone
