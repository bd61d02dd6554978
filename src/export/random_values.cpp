#include "export/random_values.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu_loops.h"
#include "kernels/numeric_types.h"

namespace halftone {
namespace {

// SplitMix64's finalizer (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

// The same idea in 32 bits (Wellons' lowbias32), which vectorizes.
inline uint32_t mixed_32(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352dU;
  x = (x ^ (x >> 15)) * 0x846ca68bU;
  return x ^ (x >> 16);
}

template <typename Element>
void fill_run(uint32_t key, float center, float step, int64_t count,
              typename Element::Storage* __restrict__ to) {
  for (int64_t i = 0; i < count; ++i) {
    const auto drawn = static_cast<int32_t>(mixed_32(key + static_cast<uint32_t>(i))) >> 16;
    to[i] = Element::store(center + step * static_cast<float>(drawn));
  }
}

}  // namespace

uint64_t random_key(uint64_t seed, const std::string& tensor) {
  uint64_t key = mixed(seed);
  for (const char byte : tensor) key = mixed(key ^ static_cast<unsigned char>(byte));
  return key;
}

void fill_random(uint64_t key, RandomKind kind, DType dtype, int64_t begin, int64_t count,
                 void* data) {
  check(begin % kRandomRun == 0, "random values are drawn in whole runs");
  const float center = kind == RandomKind::kGain ? 1.0f : 0.0f;
  const float reach = kind == RandomKind::kGain ? 0x1p-4f : 0x1p-5f;
  const float step = reach * 0x1p-15f;
  with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    auto* to = static_cast<typename Element::Storage*>(data);
    for (int64_t done = 0; done < count; done += kRandomRun) {
      const auto run = static_cast<uint64_t>((begin + done) / kRandomRun);
      const auto run_key = static_cast<uint32_t>(mixed(key ^ run) >> 32);
      cpu::vectorized<fill_run<Element>>(run_key, center, step, std::min(kRandomRun, count - done),
                                         to + done);
    }
  });
}

}  // namespace halftone
