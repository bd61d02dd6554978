#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/numeric_types.h"

// Stages of the formats with a scale per short block. Blocks go through them in tiles, so that the
// codes and scales between two stages stay in the first-level cache, and each stage is a loop that
// vectorizes by itself.
namespace halftone::cpu {

static_assert(std::endian::native == std::endian::little, "two codes are packed as one integer");

inline constexpr int64_t kBlocks = 64;  // of a tile

// NaN if the block holds one: its magnitude is above infinity's.
template <typename Element, int64_t kBlock>
float amax_of_block(const typename Element::Storage* x) {
  using Bits = std::conditional_t<sizeof(typename Element::Storage) == 2, uint16_t, uint32_t>;
  Bits largest = 0;
  for (int64_t i = 0; i < kBlock; ++i) {
    largest = std::max(largest, static_cast<Bits>(Element::magnitude(x[i])));
  }
  return Element::of_magnitude(largest);
}

// Sixteen neighbours in a vector of the compiler's.
typedef float Sixteen __attribute__((vector_size(64)));

// per_element[i] = per_block[i / kBlock]: then a stage is one flat loop over the elements of all
// blocks. With the block's number inside, compilers vectorize across blocks and transpose.
template <int64_t kBlock>
void spread(const float* per_block, int64_t blocks, float* __restrict__ per_element) {
  for (int64_t i = 0; i < blocks * kBlock; i += 16) {
    const Sixteen run = per_block[i / kBlock] - Sixteen{};
    std::memcpy(per_element + i, &run, sizeof(run));
  }
}

// packed[i] = codes[2i] | codes[2i + 1] << 4.
inline void pack_pairs(const uint8_t* codes, int64_t bytes, uint8_t* __restrict__ packed) {
  for (int64_t i = 0; i < bytes; ++i) {
    uint16_t pair;  // even | odd << 8
    std::memcpy(&pair, codes + 2 * i, sizeof(pair));
    packed[i] = static_cast<uint8_t>(pair | (pair >> 4));
  }
}

inline void unpack_pairs(const uint8_t* packed, int64_t bytes, uint8_t* __restrict__ codes) {
  for (int64_t i = 0; i < bytes; ++i) {
    codes[2 * i] = packed[i] & 15u;
    codes[2 * i + 1] = packed[i] >> 4;
  }
}

}  // namespace halftone::cpu
