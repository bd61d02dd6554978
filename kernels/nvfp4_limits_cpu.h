#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/numeric_types.h"

// NVFP4 codes of 16-bit elements without a division: under one step a code depends only on where
// the magnitude, taken as an integer, stands among eight limits. There are as many steps as block
// scales, so the limits are found once for a matrix, with the division that they replace.
namespace halftone::cpu {

inline constexpr int kUsableScales = 127;  // e4m3 codes of values that are neither negative nor NaN

// Of a step: the largest magnitude whose quotient is zero, and then for j = 1 ... 7 the largest one
// whose index is below j. Each limit twice, as the two halves of what fills a vector.
struct Nvfp4Limits {
  uint32_t pairs[8];
};

struct Nvfp4LimitTable {
  Nvfp4Limits of_scale[kUsableScales];
  bool usable[256];  // the step is positive and finite
};

// The largest magnitude for which `below` holds; it holds up to there. `guess` is near.
template <typename Element, typename Below>
uint32_t last_magnitude(uint32_t guess, const Below& below) {
  uint32_t last = std::min<uint32_t>(guess, Element::kInfinity - 1);
  while (last > 0 && !below(last)) --last;
  while (below(last + 1)) ++last;
  return last;
}

template <typename Element>
Nvfp4Limits limits_of_step(float step) {
  constexpr float kMidpoints[8] = {0.0f, .25f, .75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
  Nvfp4Limits limits;
  for (uint32_t j = 0; j < 8; ++j) {
    const auto below = [&](uint32_t magnitude) {
      const float quotient = Element::of_magnitude(magnitude) / step;
      return j == 0 ? quotient == 0.0f : e2m1_index_of_float(quotient) < j;
    };
    const float at = j == 0 ? step * 0x1p-75f * 0x1p-75f : kMidpoints[j] * step;
    const uint32_t last = last_magnitude<Element>(Element::magnitude(Element::store(at)), below);
    limits.pairs[j] = last | last << 16;
  }
  return limits;
}

template <typename Element>
void fill_limits(float scale_2, Nvfp4LimitTable* table) {
  for (int scale = 0; scale < 256; ++scale) {
    const float step = float_of_e4m3(static_cast<uint8_t>(scale)) * scale_2;
    table->usable[scale] = scale < kUsableScales && bits_of(step) - 1u < 0x7f7fffffu;
    if (table->usable[scale]) table->of_scale[scale] = limits_of_step<Element>(step);
  }
}

// packed[i] = code of w[2i] | code of w[2i + 1] << 4 for `count` elements, a multiple of kBlock, at
// most kMost, with usable scales.
template <typename Element, int64_t kBlock, int64_t kMost>
void encode_by_limits(const uint16_t* w, int64_t count, const Nvfp4LimitTable& table,
                      const uint8_t* scales, uint8_t* __restrict__ packed) {
  typedef int16_t Lanes __attribute__((vector_size(32)));
  typedef uint32_t Pairs __attribute__((vector_size(32)));
  uint16_t codes[kMost];
  for (int64_t i = 0; i < count; i += 16) {
    Lanes x;
    std::memcpy(&x, w + i, sizeof(x));
    const Lanes magnitude = x & int16_t{0x7fff};
    const Nvfp4Limits& limits = table.of_scale[scales[i / kBlock]];
    Lanes code = {};
    for (int j = 1; j < 8; ++j) code -= magnitude > (Lanes)(limits.pairs[j] - Pairs{});
    const Lanes not_zero = magnitude > (Lanes)(limits.pairs[0] - Pairs{});
    const Lanes is_nan = magnitude > static_cast<int16_t>(Element::kInfinity);
    code |= (x < 0) & not_zero & ~is_nan & 8;
    std::memcpy(codes + i, &code, sizeof(code));
  }
  for (int64_t i = 0; i < count / 2; ++i) {
    uint32_t pair;  // even | odd << 16
    std::memcpy(&pair, codes + 2 * i, sizeof(pair));
    packed[i] = static_cast<uint8_t>(pair | pair >> 12);
  }
}

}  // namespace halftone::cpu
