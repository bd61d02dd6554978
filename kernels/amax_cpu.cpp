#include "kernels/amax_cpu.h"

#include <algorithm>
#include <atomic>
#include <type_traits>

#include "kernels/cpu_loops.h"
#include "kernels/numeric_types.h"

namespace halftone::cpu {
namespace {

struct Magnitudes {
  uint32_t largest_finite = 0;
  bool finite = true;
};

// Magnitudes are compared as integers of the element's own width: exact and without rounding. With
// infinity taken away (modulo 2^16 or 2^32) every finite one is above every other: the maximum is
// the largest finite one, and the minimum tells whether there are others. Both vectorize.
template <typename Element>
void scan(const typename Element::Storage* x, int64_t count, Magnitudes* result) {
  using Bits = std::conditional_t<sizeof(typename Element::Storage) == 2, uint16_t, uint32_t>;
  constexpr Bits kZero = static_cast<Bits>(0u - Element::kInfinity);
  Bits highest = kZero;
  Bits lowest = kZero;
  for (int64_t i = 0; i < count; ++i) {
    const Bits shifted = static_cast<Bits>(Element::magnitude(x[i]) - Element::kInfinity);
    highest = std::max(highest, shifted);
    lowest = std::min(lowest, shifted);
  }
  result->largest_finite = static_cast<Bits>(highest + Element::kInfinity);
  result->finite = lowest == kZero;
}

// Of T(x * scale), in tiles that stay in the cache.
template <typename Element>
void scan_scaled(const typename Element::Storage* x, const float* scale, int64_t count,
                 Magnitudes* result) {
  constexpr int64_t kTile = 1024;
  typename Element::Storage scaled[kTile];
  *result = {};
  for (int64_t start = 0; start < count; start += kTile) {
    const int64_t size = std::min(kTile, count - start);
    for (int64_t i = 0; i < size; ++i) {
      scaled[i] = Element::store(Element::load(x[start + i]) * scale[start + i]);
    }
    Magnitudes tile;
    scan<Element>(scaled, size, &tile);
    result->largest_finite = std::max(result->largest_finite, tile.largest_finite);
    result->finite = result->finite && tile.finite;
  }
}

void raise_to(std::atomic<uint32_t>& maximum, uint32_t value) {
  uint32_t seen = maximum;
  while (seen < value && !maximum.compare_exchange_weak(seen, value)) {
  }
}

}  // namespace

Amax amax_of_tensor(const Context& context, const MatrixView& x_NK) {
  Amax amax;
  with_element(x_NK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* x = static_cast<const typename Element::Storage*>(x_NK.data);
    std::atomic<uint32_t> largest_finite = 0;
    std::atomic<bool> finite = true;
    for_ranges(context, x_NK.count(), kGrain, [&](int64_t begin, int64_t end) {
      Magnitudes magnitudes;
      vectorized<scan<Element>>(x + begin, end - begin, &magnitudes);
      raise_to(largest_finite, magnitudes.largest_finite);
      if (!magnitudes.finite) finite = false;
    });
    amax = {Element::of_magnitude(largest_finite), finite};
  });
  return amax;
}

Amax amax_of_scaled(const Context& context, const MatrixView& w_NK, const float* column_scale_K) {
  Amax amax;
  with_element(w_NK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    std::atomic<uint32_t> largest_finite = 0;
    std::atomic<bool> finite = true;
    for_row_pieces(context, w_NK.rows, w_NK.cols, [&](int64_t row, int64_t begin, int64_t end) {
      Magnitudes magnitudes;
      vectorized<scan_scaled<Element>>(w + begin, column_scale_K + (begin - row * w_NK.cols),
                                       end - begin, &magnitudes);
      raise_to(largest_finite, magnitudes.largest_finite);
      if (!magnitudes.finite) finite = false;
    });
    amax = {Element::of_magnitude(largest_finite), finite};
  });
  return amax;
}

void amax_of_rows(const Context& context, const MatrixView& x_NK, float* amax_N) {
  with_element(x_NK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* x = static_cast<const typename Element::Storage*>(x_NK.data);
    const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, x_NK.cols));
    for_ranges(context, x_NK.rows, grain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        Magnitudes magnitudes;
        vectorized<scan<Element>>(x + row * x_NK.cols, x_NK.cols, &magnitudes);
        amax_N[row] = Element::of_magnitude(magnitudes.largest_finite);
      }
    });
  });
}

}  // namespace halftone::cpu
