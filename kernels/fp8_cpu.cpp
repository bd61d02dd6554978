#include "kernels/fp8_cpu.h"

#include <algorithm>

#include "kernels/cpu_loops.h"
#include "kernels/fp8_elements.h"

namespace halftone::cpu {
namespace {

template <typename Element>
void quantize(const typename Element::Storage* w, int64_t count, float scale,
              uint8_t* __restrict__ codes) {
  for (int64_t i = 0; i < count; ++i) codes[i] = fp8_code<Element>(w[i], scale);
}

template <typename Element>
void dequantize(const uint8_t* codes, int64_t count, float scale,
                typename Element::Storage* __restrict__ w) {
  for (int64_t i = 0; i < count; ++i) w[i] = Element::store(float_of_e4m3(codes[i]) * scale);
}

// One rounding: formats-and-hf-export.md, 2.4 and 2.5.
template <typename Element>
void quantize_once(const typename Element::Storage* w, int64_t count, float scale,
                   uint8_t* __restrict__ codes) {
  for (int64_t i = 0; i < count; ++i) {
    codes[i] = fp8_code<F32Element>(Element::load(w[i]), scale);
  }
}

// Blocks [begin, end) of a row, each with its own scale.
template <typename Element>
void quantize_blocks(const typename Element::Storage* w, int64_t cols, int64_t block, int64_t begin,
                     int64_t end, const float* scale_B, uint8_t* codes) {
  for (int64_t b = begin; b < end; ++b) {
    const int64_t at = b * block;
    quantize_once<Element>(w + at, std::min(block, cols - at), scale_B[b], codes + at);
  }
}

template <typename Element>
void dequantize_blocks(const uint8_t* codes, int64_t cols, int64_t block, int64_t begin,
                       int64_t end, const float* scale_B, typename Element::Storage* w) {
  for (int64_t b = begin; b < end; ++b) {
    const int64_t at = b * block;
    dequantize<Element>(codes + at, std::min(block, cols - at), scale_B[b], w + at);
  }
}

// x and y may be the same: a tile lies between them, so that the compiler need not ask.
template <typename Element>
void fake_quantize(const typename Element::Storage* x, int64_t count, float amax,
                   typename Element::Storage* y) {
  constexpr int64_t kTile = 256;
  const float s = 448.0f / amax;
  const float inverse = 1.0f / s;
  float tile[kTile];
  for (int64_t start = 0; start < count; start += kTile) {
    const int64_t size = std::min(kTile, count - start);
    for (int64_t i = 0; i < size; ++i) {
      tile[i] = fake_fp8(Element::load(x[start + i]), s, inverse);
    }
    for (int64_t i = 0; i < size; ++i) y[start + i] = Element::store(tile[i]);
  }
}

template <typename Element>
void fake_quantize_token(const typename Element::Storage* x, int64_t count,
                         typename Element::Storage* y) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, Element::magnitude(x[i]));
  fake_quantize<Element>(x, count, fp8_bound(Element::of_magnitude(largest)), y);
}

}  // namespace

void quantize_fp8(const Context& context, const MatrixView& w_NK, float scale, uint8_t* codes_NK) {
  with_element(w_NK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    for_ranges(context, w_NK.count(), kGrain, [&](int64_t begin, int64_t end) {
      vectorized<quantize<Element>>(w + begin, end - begin, scale, codes_NK + begin);
    });
  });
}

void dequantize_fp8(const Context& context, const uint8_t* codes_NK, int64_t count, float scale,
                    DType dtype, void* w_NK) {
  with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    auto* w = static_cast<typename Element::Storage*>(w_NK);
    for_ranges(context, count, kGrain, [&](int64_t begin, int64_t end) {
      vectorized<dequantize<Element>>(codes_NK + begin, end - begin, scale, w + begin);
    });
  });
}

void fake_quantize_fp8(const Context& context, const MatrixView& x_TK, float amax, void* y_TK) {
  with_element(x_TK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* x = static_cast<const typename Element::Storage*>(x_TK.data);
    auto* y = static_cast<typename Element::Storage*>(y_TK);
    for_ranges(context, x_TK.count(), kGrain, [&](int64_t begin, int64_t end) {
      vectorized<fake_quantize<Element>>(x + begin, end - begin, amax, y + begin);
    });
  });
}

void quantize_fp8_rows(const Context& context, const MatrixView& w_NK, const float* scale_N,
                       uint8_t* codes_NK) {
  with_element(w_NK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    for_row_pieces(context, w_NK.rows, w_NK.cols, [&](int64_t row, int64_t begin, int64_t end) {
      vectorized<quantize_once<Element>>(w + begin, end - begin, scale_N[row], codes_NK + begin);
    });
  });
}

void dequantize_fp8_rows(const Context& context, const uint8_t* codes_NK, int64_t rows,
                         int64_t cols, const float* scale_N, DType dtype, void* w_NK) {
  with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    auto* w = static_cast<typename Element::Storage*>(w_NK);
    for_row_pieces(context, rows, cols, [&](int64_t row, int64_t begin, int64_t end) {
      vectorized<dequantize<Element>>(codes_NK + begin, end - begin, scale_N[row], w + begin);
    });
  });
}

void quantize_fp8_tiles(const Context& context, const MatrixView& w_NK, int64_t tile,
                        const float* scale, uint8_t* codes_NK) {
  const int64_t cols = w_NK.cols;
  with_element(w_NK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    for_block_pieces(context, w_NK.rows, cols, tile, [&](const BlockPiece& piece) {
      vectorized<quantize_blocks<Element>>(w + piece.row * cols, cols, tile, piece.begin, piece.end,
                                           scale + piece.row / tile * piece.blocks_of_row,
                                           codes_NK + piece.row * cols);
    });
  });
}

void dequantize_fp8_tiles(const Context& context, const uint8_t* codes_NK, int64_t rows,
                          int64_t cols, int64_t tile, const float* scale, DType dtype, void* w_NK) {
  with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    auto* w = static_cast<typename Element::Storage*>(w_NK);
    for_block_pieces(context, rows, cols, tile, [&](const BlockPiece& piece) {
      vectorized<dequantize_blocks<Element>>(
          codes_NK + piece.row * cols, cols, tile, piece.begin, piece.end,
          scale + piece.row / tile * piece.blocks_of_row, w + piece.row * cols);
    });
  });
}

void fake_quantize_fp8_tokens(const Context& context, const MatrixView& x_TK, void* y_TK) {
  with_element(x_TK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* x = static_cast<const typename Element::Storage*>(x_TK.data);
    auto* y = static_cast<typename Element::Storage*>(y_TK);
    for_block_pieces(context, x_TK.rows, x_TK.cols, std::max<int64_t>(1, x_TK.cols),
                     [&](const BlockPiece& token) {
                       const int64_t at = token.row * x_TK.cols;
                       vectorized<fake_quantize_token<Element>>(x + at, x_TK.cols, y + at);
                     });
  });
}

}  // namespace halftone::cpu
