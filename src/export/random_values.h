#pragma once

#include <cstdint>
#include <string>

#include "kernels/dtype.h"

namespace halftone {

// Random tensors for benchmarks. A value follows from the seed, the tensor's name and its position
// alone, so that threads may fill pieces in any order.
enum class RandomKind {
  kWeight,  // even in (-1/32, 1/32): as spread as weights that were drawn with 0.018
  kGain,    // even in (15/16, 17/16): what norms multiply by
};

// Values are drawn in runs of this many elements; a fill begins at a multiple of it.
inline constexpr int64_t kRandomRun = int64_t{1} << 16;

uint64_t random_key(uint64_t seed, const std::string& tensor);

// Elements [begin, begin + count) of a tensor, as F32, F16 or BF16. All are finite.
void fill_random(uint64_t key, RandomKind kind, DType dtype, int64_t begin, int64_t count,
                 void* data);

}  // namespace halftone
