#include "kernels/int4_cpu.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu_loops.h"
#include "kernels/integer_elements.h"

namespace halftone::cpu {
namespace {

// Blocks [begin, end) of the rows `even` and `odd`.
template <typename Element>
void quantize(const typename Element::Storage* even, const typename Element::Storage* odd,
              int64_t block, int64_t begin, int64_t end, const float* even_scale_B,
              const float* odd_scale_B, uint8_t* __restrict__ packed) {
  for (int64_t b = begin; b < end; ++b) {
    const float even_scale = even_scale_B[b];
    const float odd_scale = odd_scale_B[b];
    for (int64_t i = b * block; i < (b + 1) * block; ++i) {
      const uint8_t low = int4_code(Element::load(even[i]), even_scale);
      const uint8_t high = int4_code(Element::load(odd[i]), odd_scale);
      packed[i] = static_cast<uint8_t>(low | (high << 4));
    }
  }
}

template <typename Element>
void dequantize(const uint8_t* packed, int64_t block, int64_t begin, int64_t end,
                const float* even_scale_B, const float* odd_scale_B,
                typename Element::Storage* __restrict__ even,
                typename Element::Storage* __restrict__ odd) {
  for (int64_t b = begin; b < end; ++b) {
    const float even_scale = even_scale_B[b];
    const float odd_scale = odd_scale_B[b];
    for (int64_t i = b * block; i < (b + 1) * block; ++i) {
      even[i] = Element::store(float_of_int4(packed[i] & 15u) * even_scale);
      odd[i] = Element::store(float_of_int4(packed[i] >> 4) * odd_scale);
    }
  }
}

// The columns and blocks of a row that one call of fake_quantize works on.
struct FakeBlocks {
  int64_t cols;
  int64_t block;
  int64_t begin;
  int64_t end;
  const float* column_scale_K;  // or null
  const float* amax_B;          // of the row, or null
  float ratio;
};

template <typename Element>
void smooth(const typename Element::Storage* w, const float* column_scale, int64_t count,
            float* __restrict__ u) {
  if (column_scale == nullptr) {
    for (int64_t i = 0; i < count; ++i) u[i] = Element::load(w[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) {
      u[i] = round_to<Element>(Element::load(w[i]) * column_scale[i]);
    }
  }
}

inline float largest_magnitude(const float* u, int64_t count) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, F32Element::magnitude(u[i]));
  return float_of_bits(largest);
}

// `u` has room for one block: it lies between w and y, which may be the same.
template <typename Element>
void fake_quantize(const typename Element::Storage* w, const FakeBlocks& of, float* __restrict__ u,
                   typename Element::Storage* y) {
  for (int64_t b = of.begin; b < of.end; ++b) {
    const int64_t at = b * of.block;
    const int64_t count = std::min(of.block, of.cols - at);
    smooth<Element>(w + at, of.column_scale_K == nullptr ? nullptr : of.column_scale_K + at, count,
                    u);
    const float amax =
        (of.amax_B == nullptr ? largest_magnitude(u, count) : of.amax_B[b]) * of.ratio;
    if (is_no_amax(amax)) {
      std::fill(y + at, y + at + count, Element::store(0.0f));
      continue;
    }
    const float scale = 7.0f / amax;
    for (int64_t i = 0; i < count; ++i) {
      y[at + i] = Element::store(fake_integer(u[i], scale, -8.0f, 7.0f));
    }
  }
}

}  // namespace

void quantize_int4(const Context& context, const MatrixView& w_NK, int64_t block,
                   const float* scale_NB, uint8_t* packed) {
  const int64_t cols = w_NK.cols;
  with_element(w_NK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    for_block_pieces(context, w_NK.rows / 2, cols, block, [&](const BlockPiece& pair) {
      const auto* even = w + 2 * pair.row * cols;
      const float* scale = scale_NB + 2 * pair.row * pair.blocks_of_row;
      vectorized<quantize<Element>>(even, even + cols, block, pair.begin, pair.end, scale,
                                    scale + pair.blocks_of_row, packed + pair.row * cols);
    });
  });
}

void dequantize_int4(const Context& context, const uint8_t* packed, int64_t rows, int64_t cols,
                     int64_t block, const float* scale_NB, DType dtype, void* w_NK) {
  with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    auto* w = static_cast<typename Element::Storage*>(w_NK);
    for_block_pieces(context, rows / 2, cols, block, [&](const BlockPiece& pair) {
      auto* even = w + 2 * pair.row * cols;
      const float* scale = scale_NB + 2 * pair.row * pair.blocks_of_row;
      vectorized<dequantize<Element>>(packed + pair.row * cols, block, pair.begin, pair.end, scale,
                                      scale + pair.blocks_of_row, even, even + cols);
    });
  });
}

void fake_quantize_int4(const Context& context, const MatrixView& w_NK, const float* column_scale_K,
                        int64_t block, const float* amax_NB, float ratio, void* y_NK) {
  const int64_t cols = w_NK.cols;
  with_element(w_NK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    auto* y = static_cast<typename Element::Storage*>(y_NK);
    for_block_pieces(context, w_NK.rows, cols, block, [&](const BlockPiece& piece) {
      std::vector<float> u(static_cast<size_t>(std::min(block, cols)));
      const float* amax_B =
          amax_NB == nullptr ? nullptr : amax_NB + piece.row * piece.blocks_of_row;
      const FakeBlocks blocks{cols, block, piece.begin, piece.end, column_scale_K, amax_B, ratio};
      vectorized<fake_quantize<Element>>(w + piece.row * cols, blocks, u.data(),
                                         y + piece.row * cols);
    });
  });
}

}  // namespace halftone::cpu
