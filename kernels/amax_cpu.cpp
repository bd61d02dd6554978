#include "kernels/amax_cpu.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <type_traits>
#include <vector>

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

template <typename Element>
float amax_of_run(const typename Element::Storage* x, int64_t count) {
  Magnitudes magnitudes;
  scan<Element>(x, count, &magnitudes);
  return Element::of_magnitude(magnitudes.largest_finite);
}

// amax of the blocks [begin, end) of a row of `cols` elements.
template <typename Element>
void blocks_of_row(const typename Element::Storage* x, int64_t cols, int64_t block, int64_t begin,
                   int64_t end, float* amax_B) {
  for (int64_t b = begin; b < end; ++b) {
    amax_B[b] = amax_of_run<Element>(x + b * block, std::min(block, cols - b * block));
  }
}

template <typename Element>
float amax_of_tile(const typename Element::Storage* x, int64_t stride, int64_t rows, int64_t cols) {
  float amax = 0.0f;
  for (int64_t row = 0; row < rows; ++row) {
    amax = std::max(amax, amax_of_run<Element>(x + row * stride, cols));
  }
  return amax;
}

template <typename Element>
void tiles(const MatrixView& w_NK, int64_t tile, int64_t begin, int64_t end, float* amax) {
  const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
  const int64_t tiles_of_row = blocks_in(w_NK.cols, tile);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t row = i / tiles_of_row * tile;
    const int64_t col = i % tiles_of_row * tile;
    amax[i] =
        amax_of_tile<Element>(w + row * w_NK.cols + col, w_NK.cols, std::min(tile, w_NK.rows - row),
                              std::min(tile, w_NK.cols - col));
  }
}

// amax_K[c] of `rows` rows, in the same integers as scan; highest_K starts as zeros.
template <typename Element, typename Bits>
void columns(const typename Element::Storage* x, int64_t rows, int64_t cols,
             Bits* __restrict__ highest_K) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t c = 0; c < cols; ++c) {
      const Bits magnitude = static_cast<Bits>(Element::magnitude(x[row * cols + c]));
      const Bits finite = magnitude < Element::kInfinity ? magnitude : Bits{0};
      highest_K[c] = std::max(highest_K[c], finite);
    }
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

void amax_of_blocks(const Context& context, const MatrixView& w_NK, int64_t block, float* amax_NB) {
  with_element(w_NK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    for_block_pieces(context, w_NK.rows, w_NK.cols, block, [&](const BlockPiece& piece) {
      vectorized<blocks_of_row<Element>>(w + piece.row * w_NK.cols, w_NK.cols, block, piece.begin,
                                         piece.end, amax_NB + piece.row * piece.blocks_of_row);
    });
  });
}

void amax_of_tiles(const Context& context, const MatrixView& w_NK, int64_t tile, float* amax) {
  const int64_t count = blocks_in(w_NK.rows, tile) * blocks_in(w_NK.cols, tile);
  const int64_t grain = std::max<int64_t>(1, kGrain / (tile * tile));
  with_element(w_NK.dtype, [&](auto element) {
    using Element = decltype(element);
    for_ranges(context, count, grain, [&](int64_t begin, int64_t end) {
      vectorized<tiles<Element>>(w_NK, tile, begin, end, amax);
    });
  });
}

void amax_of_columns(const Context& context, const MatrixView& x_TK, float* amax_K) {
  with_element(x_TK.dtype, [&](auto element) {
    using Element = decltype(element);
    using Storage = typename Element::Storage;
    using Bits = std::conditional_t<sizeof(Storage) == 2, uint16_t, uint32_t>;
    const auto* x = static_cast<const Storage*>(x_TK.data);
    const auto cols = static_cast<size_t>(x_TK.cols);
    std::vector<Bits> highest_K(cols);
    std::mutex mutex;
    const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, x_TK.cols));
    for_ranges(context, x_TK.rows, grain, [&](int64_t begin, int64_t end) {
      std::vector<Bits> mine_K(cols);
      vectorized<columns<Element, Bits>>(x + begin * x_TK.cols, end - begin, x_TK.cols,
                                         mine_K.data());
      const std::scoped_lock lock(mutex);
      for (size_t c = 0; c < cols; ++c) highest_K[c] = std::max(highest_K[c], mine_K[c]);
    });
    for (size_t c = 0; c < cols; ++c) amax_K[c] = Element::of_magnitude(highest_K[c]);
  });
}

}  // namespace halftone::cpu
