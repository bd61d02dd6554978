#include "kernels/mx_cpu.h"

#include <algorithm>

#include "kernels/cpu_blocks.h"
#include "kernels/cpu_loops.h"
#include "kernels/mx_elements.h"

namespace halftone::cpu {
namespace {

constexpr int64_t kTile = kBlocks * kMxBlock;

// scales and their inverses of a tile.
template <typename Format, typename Element>
void find_scales(const typename Element::Storage* tile, int64_t blocks, uint8_t* scales,
                 float* inverses) {
  for (int64_t b = 0; b < blocks; ++b) {
    inverses[b] = amax_of_block<Element, kMxBlock>(tile + b * kMxBlock);
  }
  for (int64_t b = 0; b < blocks; ++b) scales[b] = mx_scale<Format>(inverses[b]);
  for (int64_t b = 0; b < blocks; ++b) inverses[b] = inverse_of_e8m0(scales[b]);
}

template <typename Element>
void quantize_4(const typename Element::Storage* w, int64_t blocks, uint8_t* __restrict__ packed,
                uint8_t* __restrict__ scales) {
  float inverses[kBlocks];
  float factor[kTile];
  uint8_t codes[kTile];
  for (int64_t start = 0; start < blocks; start += kBlocks) {
    const int64_t size = std::min(kBlocks, blocks - start);
    const auto* const tile = w + start * kMxBlock;
    find_scales<Mxfp4, Element>(tile, size, scales + start, inverses);
    spread<kMxBlock>(inverses, size, factor);
    for (int64_t i = 0; i < size * kMxBlock; ++i) {
      codes[i] = mxfp4_code(Element::load(tile[i]) * factor[i]);
    }
    pack_pairs(codes, size * kMxBlock / 2, packed + start * kMxBlock / 2);
  }
}

template <typename Element>
void quantize_8(const typename Element::Storage* w, int64_t blocks, uint8_t* __restrict__ codes,
                uint8_t* __restrict__ scales) {
  float inverses[kBlocks];
  float factor[kTile];
  for (int64_t start = 0; start < blocks; start += kBlocks) {
    const int64_t size = std::min(kBlocks, blocks - start);
    const auto* const tile = w + start * kMxBlock;
    find_scales<Mxfp8, Element>(tile, size, scales + start, inverses);
    spread<kMxBlock>(inverses, size, factor);
    uint8_t* const bytes = codes + start * kMxBlock;
    for (int64_t i = 0; i < size * kMxBlock; ++i) {
      bytes[i] = mxfp8_code(Element::load(tile[i]) * factor[i]);
    }
  }
}

template <typename Element>
void dequantize_4(const uint8_t* packed, const uint8_t* scales, int64_t blocks,
                  typename Element::Storage* __restrict__ w) {
  float steps[kBlocks];
  float factor[kTile];
  uint8_t codes[kTile];
  for (int64_t start = 0; start < blocks; start += kBlocks) {
    const int64_t size = std::min(kBlocks, blocks - start);
    for (int64_t b = 0; b < size; ++b) steps[b] = float_of_e8m0(scales[start + b]);
    unpack_pairs(packed + start * kMxBlock / 2, size * kMxBlock / 2, codes);
    spread<kMxBlock>(steps, size, factor);
    auto* const tile = w + start * kMxBlock;
    for (int64_t i = 0; i < size * kMxBlock; ++i) {
      tile[i] = Element::store(float_of_e2m1(codes[i]) * factor[i]);
    }
  }
}

template <typename Element>
void dequantize_8(const uint8_t* codes, const uint8_t* scales, int64_t blocks,
                  typename Element::Storage* __restrict__ w) {
  float steps[kBlocks];
  float factor[kTile];
  for (int64_t start = 0; start < blocks; start += kBlocks) {
    const int64_t size = std::min(kBlocks, blocks - start);
    for (int64_t b = 0; b < size; ++b) steps[b] = float_of_e8m0(scales[start + b]);
    const uint8_t* const bytes = codes + start * kMxBlock;
    spread<kMxBlock>(steps, size, factor);
    auto* const tile = w + start * kMxBlock;
    for (int64_t i = 0; i < size * kMxBlock; ++i) {
      tile[i] = Element::store(float_of_e4m3(bytes[i]) * factor[i]);
    }
  }
}

// x and y may be the same: a tile lies between them, so that the compiler need not ask.
template <typename Format, typename Element>
void fake_quantize(const typename Element::Storage* x, int64_t blocks,
                   typename Element::Storage* y) {
  float inverses[kBlocks];
  float steps[kBlocks];
  float inverse[kTile];
  float factor[kTile];
  typename Element::Storage results[kTile];
  for (int64_t start = 0; start < blocks; start += kBlocks) {
    const int64_t size = std::min(kBlocks, blocks - start);
    const auto* const from = x + start * kMxBlock;
    auto* const to = y + start * kMxBlock;
    for (int64_t b = 0; b < size; ++b) {
      steps[b] = amax_of_block<Element, kMxBlock>(from + b * kMxBlock);
    }
    for (int64_t b = 0; b < size; ++b) {
      const uint8_t scale = fake_mx_scale<Format>(steps[b]);
      inverses[b] = inverse_of_e8m0(scale);
      steps[b] = float_of_e8m0(scale);
    }
    spread<kMxBlock>(inverses, size, inverse);
    spread<kMxBlock>(steps, size, factor);
    for (int64_t i = 0; i < size * kMxBlock; ++i) {
      const float rounded = Format::round(Element::load(from[i]) * inverse[i]);
      results[i] = Element::store(rounded * factor[i]);
    }
    std::copy(results, results + size * kMxBlock, to);
  }
}

// A last block that is not full is padded with zeros.
template <typename Format, typename Element>
void fake_quantize_piece(const typename Element::Storage* x, int64_t cols,
                         typename Element::Storage* y) {
  const int64_t full = cols / kMxBlock;
  vectorized<fake_quantize<Format, Element>>(x, full, y);
  if (full * kMxBlock == cols) return;
  typename Element::Storage last[kMxBlock] = {};
  std::copy(x + full * kMxBlock, x + cols, last);
  fake_quantize<Format, Element>(last, 1, last);
  std::copy(last, last + cols % kMxBlock, y + full * kMxBlock);
}

template <typename Format>
void fake_quantize_matrix(const Context& context, const MatrixView& x_TK, void* y_TK) {
  with_element(x_TK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* x = static_cast<const typename Element::Storage*>(x_TK.data);
    auto* y = static_cast<typename Element::Storage*>(y_TK);
    const int64_t cols = x_TK.cols;
    for_block_pieces(context, x_TK.rows, cols, kMxBlock, [&](const BlockPiece& piece) {
      const int64_t column = piece.begin * kMxBlock;
      const int64_t at = piece.row * cols + column;
      fake_quantize_piece<Format, Element>(x + at, std::min(piece.end * kMxBlock, cols) - column,
                                           y + at);
    });
  });
}

}  // namespace

void quantize_mxfp4(const Context& context, const MatrixView& w_NK, uint8_t* packed,
                    uint8_t* scales) {
  with_element(w_NK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    for_ranges(context, w_NK.count() / kMxBlock, kGrain / kMxBlock,
               [&](int64_t begin, int64_t end) {
                 vectorized<quantize_4<Element>>(w + begin * kMxBlock, end - begin,
                                                 packed + begin * kMxBlock / 2, scales + begin);
               });
  });
}

void quantize_mxfp8(const Context& context, const MatrixView& w_NK, uint8_t* codes,
                    uint8_t* scales) {
  with_element(w_NK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    for_ranges(context, w_NK.count() / kMxBlock, kGrain / kMxBlock,
               [&](int64_t begin, int64_t end) {
                 vectorized<quantize_8<Element>>(w + begin * kMxBlock, end - begin,
                                                 codes + begin * kMxBlock, scales + begin);
               });
  });
}

void dequantize_mxfp4(const Context& context, const uint8_t* packed, const uint8_t* scales,
                      int64_t count, DType dtype, void* w_NK) {
  with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    auto* w = static_cast<typename Element::Storage*>(w_NK);
    for_ranges(context, count / kMxBlock, kGrain / kMxBlock, [&](int64_t begin, int64_t end) {
      vectorized<dequantize_4<Element>>(packed + begin * kMxBlock / 2, scales + begin, end - begin,
                                        w + begin * kMxBlock);
    });
  });
}

void dequantize_mxfp8(const Context& context, const uint8_t* codes, const uint8_t* scales,
                      int64_t count, DType dtype, void* w_NK) {
  with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    auto* w = static_cast<typename Element::Storage*>(w_NK);
    for_ranges(context, count / kMxBlock, kGrain / kMxBlock, [&](int64_t begin, int64_t end) {
      vectorized<dequantize_8<Element>>(codes + begin * kMxBlock, scales + begin, end - begin,
                                        w + begin * kMxBlock);
    });
  });
}

void fake_quantize_mxfp4(const Context& context, const MatrixView& x_TK, void* y_TK) {
  fake_quantize_matrix<Mxfp4>(context, x_TK, y_TK);
}

void fake_quantize_mxfp8(const Context& context, const MatrixView& x_TK, void* y_TK) {
  fake_quantize_matrix<Mxfp8>(context, x_TK, y_TK);
}

}  // namespace halftone::cpu
