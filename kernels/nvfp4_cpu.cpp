#include "kernels/nvfp4_cpu.h"

#include <algorithm>
#include <memory>

#include "kernels/cpu_blocks.h"
#include "kernels/cpu_loops.h"
#include "kernels/nvfp4_elements.h"
#include "kernels/nvfp4_limits_cpu.h"

namespace halftone::cpu {
namespace {

// Finding the limits costs about as much as this many elements.
constexpr int64_t kWorthLimits = 1 << 18;

// Nothing for fp32, whose magnitudes are too many for limits, and for small matrices.
template <typename Element>
std::unique_ptr<const Nvfp4LimitTable> limits_for(int64_t count, float scale_2) {
  if (sizeof(typename Element::Storage) != 2 || count < kWorthLimits) return nullptr;
  auto table = std::make_unique<Nvfp4LimitTable>();
  fill_limits<Element>(scale_2, table.get());
  return table;
}

template <typename Element, int64_t kBlock>
void encode_by_division(const typename Element::Storage* tile, int64_t blocks,
                        const uint8_t* scales, float scale_2, uint8_t* __restrict__ packed) {
  float steps[kBlocks] = {};
  float step[kBlocks * kBlock];
  uint8_t codes[kBlocks * kBlock];
  for (int64_t b = 0; b < blocks; ++b) steps[b] = float_of_e4m3(scales[b]) * scale_2;
  spread<kBlock>(steps, blocks, step);
  for (int64_t i = 0; i < blocks * kBlock; ++i) {
    codes[i] = e2m1_of_float(Element::load(tile[i]) / step[i]);
  }
  pack_pairs(codes, blocks * kBlock / 2, packed);
}

template <typename Element, int64_t kBlock>
void encode(const typename Element::Storage* tile, int64_t blocks, const uint8_t* scales,
            float scale_2, const Nvfp4LimitTable* limits, uint8_t* __restrict__ packed) {
  if constexpr (sizeof(typename Element::Storage) == 2) {
    const auto usable = [limits](uint8_t scale) { return limits->usable[scale]; };
    if (limits != nullptr && std::all_of(scales, scales + blocks, usable)) {
      encode_by_limits<Element, kBlock, kBlocks * kBlock>(tile, blocks * kBlock, *limits, scales,
                                                          packed);
      return;
    }
  }
  encode_by_division<Element, kBlock>(tile, blocks, scales, scale_2, packed);
}

template <typename Element, int64_t kBlock>
void quantize(const typename Element::Storage* w, int64_t blocks, float scale_2,
              const Nvfp4LimitTable* limits, uint8_t* __restrict__ packed,
              uint8_t* __restrict__ block_scales) {
  const float d = 6.0f * scale_2;
  float amaxes[kBlocks];
  for (int64_t start = 0; start < blocks; start += kBlocks) {
    const int64_t size = std::min(kBlocks, blocks - start);
    const auto* const tile = w + start * kBlock;
    uint8_t* const scales = block_scales + start;
    for (int64_t b = 0; b < size; ++b) {
      amaxes[b] = amax_of_block<Element, kBlock>(tile + b * kBlock);
    }
    for (int64_t b = 0; b < size; ++b) scales[b] = nvfp4_block_scale(amaxes[b], d);
    encode<Element, kBlock>(tile, size, scales, scale_2, limits, packed + start * kBlock / 2);
  }
}

template <typename Element, int64_t kBlock>
void quantize_with_scales(const typename Element::Storage* w, int64_t blocks,
                          const uint8_t* block_scales, float scale_2, const Nvfp4LimitTable* limits,
                          uint8_t* __restrict__ packed) {
  for (int64_t start = 0; start < blocks; start += kBlocks) {
    encode<Element, kBlock>(w + start * kBlock, std::min(kBlocks, blocks - start),
                            block_scales + start, scale_2, limits, packed + start * kBlock / 2);
  }
}

template <typename Element, int64_t kBlock>
void dequantize(const uint8_t* packed, const uint8_t* block_scales, int64_t blocks, float scale_2,
                typename Element::Storage* __restrict__ w) {
  float steps[kBlocks] = {};
  float step[kBlocks * kBlock];
  uint8_t codes[kBlocks * kBlock];
  for (int64_t start = 0; start < blocks; start += kBlocks) {
    const int64_t size = std::min(kBlocks, blocks - start);
    for (int64_t b = 0; b < size; ++b) steps[b] = float_of_e4m3(block_scales[start + b]) * scale_2;
    unpack_pairs(packed + start * kBlock / 2, size * kBlock / 2, codes);
    spread<kBlock>(steps, size, step);
    auto* const tile = w + start * kBlock;
    for (int64_t i = 0; i < size * kBlock; ++i) {
      tile[i] = Element::store(float_of_e2m1(codes[i]) * step[i]);
    }
  }
}

// x and y may be the same: a tile lies between them, so that the compiler need not ask.
// column_scale may be null.
template <typename Element, int64_t kBlock>
void fake_quantize(const typename Element::Storage* x, const float* column_scale, int64_t blocks,
                   float g, typename Element::Storage* y) {
  const float d = 6.0f * g;
  float steps[kBlocks] = {};
  float step[kBlocks * kBlock];
  typename Element::Storage scaled[kBlocks * kBlock];
  typename Element::Storage rounded[kBlocks * kBlock];
  for (int64_t start = 0; start < blocks; start += kBlocks) {
    const int64_t size = std::min(kBlocks, blocks - start);
    const int64_t count = size * kBlock;
    const auto* from = x + start * kBlock;
    if (column_scale != nullptr) {
      const float* const factor = column_scale + start * kBlock;
      for (int64_t i = 0; i < count; ++i) {
        scaled[i] = Element::store(Element::load(from[i]) * factor[i]);
      }
      from = scaled;
    }
    for (int64_t b = 0; b < size; ++b) {
      steps[b] = amax_of_block<Element, kBlock>(from + b * kBlock);
    }
    for (int64_t b = 0; b < size; ++b) steps[b] = fake_nvfp4_step(steps[b], d, g);
    spread<kBlock>(steps, size, step);
    auto* const to = y + start * kBlock;
    for (int64_t i = 0; i < count; ++i) {
      rounded[i] = Element::store(round_to_e2m1(Element::load(from[i]) / step[i]) * step[i]);
    }
    std::copy(rounded, rounded + count, to);
  }
}

// A last block that is not full is padded with zeros.
template <typename Element, int64_t kBlock>
void fake_quantize_piece(const typename Element::Storage* x, const float* column_scale,
                         int64_t cols, float g, typename Element::Storage* y) {
  const int64_t full = cols / kBlock;
  vectorized<fake_quantize<Element, kBlock>>(x, column_scale, full, g, y);
  if (full * kBlock == cols) return;
  typename Element::Storage last[kBlock] = {};
  float factors[kBlock] = {};
  std::copy(x + full * kBlock, x + cols, last);
  if (column_scale != nullptr) {
    std::copy(column_scale + full * kBlock, column_scale + cols, factors);
  }
  fake_quantize<Element, kBlock>(last, column_scale != nullptr ? factors : nullptr, 1, g, last);
  std::copy(last, last + cols % kBlock, y + full * kBlock);
}

void static_scales(const float* block_amax, int64_t count, StaticNvfp4 scale,
                   uint8_t* __restrict__ block_scales) {
  for (int64_t i = 0; i < count; ++i) block_scales[i] = static_nvfp4_scale(block_amax[i], scale);
}

template <typename Element, int64_t kBlock>
void quantize_matrix(const Context& context, const MatrixView& w_NK, float scale_2, uint8_t* packed,
                     uint8_t* block_scales) {
  const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
  const auto limits = limits_for<Element>(w_NK.count(), scale_2);
  for_ranges(context, w_NK.count() / kBlock, kGrain / kBlock, [&](int64_t begin, int64_t end) {
    vectorized<quantize<Element, kBlock>>(w + begin * kBlock, end - begin, scale_2, limits.get(),
                                          packed + begin * kBlock / 2, block_scales + begin);
  });
}

template <typename Element, int64_t kBlock>
void quantize_matrix_with_scales(const Context& context, const MatrixView& w_NK,
                                 const uint8_t* block_scales, float scale_2, uint8_t* packed) {
  const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
  const auto limits = limits_for<Element>(w_NK.count(), scale_2);
  for_ranges(context, w_NK.count() / kBlock, kGrain / kBlock, [&](int64_t begin, int64_t end) {
    vectorized<quantize_with_scales<Element, kBlock>>(w + begin * kBlock, end - begin,
                                                      block_scales + begin, scale_2, limits.get(),
                                                      packed + begin * kBlock / 2);
  });
}

template <typename Element, int64_t kBlock>
void dequantize_matrix(const Context& context, const uint8_t* packed, const uint8_t* block_scales,
                       int64_t count, float scale_2, void* w_NK) {
  auto* w = static_cast<typename Element::Storage*>(w_NK);
  for_ranges(context, count / kBlock, kGrain / kBlock, [&](int64_t begin, int64_t end) {
    vectorized<dequantize<Element, kBlock>>(packed + begin * kBlock / 2, block_scales + begin,
                                            end - begin, scale_2, w + begin * kBlock);
  });
}

template <typename Element, int64_t kBlock>
void fake_quantize_matrix(const Context& context, const MatrixView& x_TK, const float* column_scale,
                          float g, void* y_TK) {
  const auto* x = static_cast<const typename Element::Storage*>(x_TK.data);
  auto* y = static_cast<typename Element::Storage*>(y_TK);
  const int64_t cols = x_TK.cols;
  for_block_pieces(context, x_TK.rows, cols, kBlock, [&](const BlockPiece& piece) {
    const int64_t column = piece.begin * kBlock;
    const int64_t at = piece.row * cols + column;
    fake_quantize_piece<Element, kBlock>(x + at,
                                         column_scale != nullptr ? column_scale + column : nullptr,
                                         std::min(piece.end * kBlock, cols) - column, g, y + at);
  });
}

}  // namespace

void quantize_nvfp4(const Context& context, const MatrixView& w_NK, int block, float scale_2,
                    uint8_t* packed, uint8_t* block_scales) {
  with_element(w_NK.dtype, [&](auto element) {
    using Element = decltype(element);
    if (block == 16) {
      quantize_matrix<Element, 16>(context, w_NK, scale_2, packed, block_scales);
    } else {
      quantize_matrix<Element, 32>(context, w_NK, scale_2, packed, block_scales);
    }
  });
}

void quantize_nvfp4_with_scales(const Context& context, const MatrixView& w_NK, int block,
                                const uint8_t* block_scales, float scale_2, uint8_t* packed) {
  with_element(w_NK.dtype, [&](auto element) {
    using Element = decltype(element);
    if (block == 16) {
      quantize_matrix_with_scales<Element, 16>(context, w_NK, block_scales, scale_2, packed);
    } else {
      quantize_matrix_with_scales<Element, 32>(context, w_NK, block_scales, scale_2, packed);
    }
  });
}

void static_nvfp4_scales(const Context& context, const float* block_amax, int64_t count,
                         const StaticNvfp4& scale, uint8_t* block_scales) {
  for_ranges(context, count, kGrain, [&](int64_t begin, int64_t end) {
    vectorized<static_scales>(block_amax + begin, end - begin, scale, block_scales + begin);
  });
}

void dequantize_nvfp4(const Context& context, const uint8_t* packed, const uint8_t* block_scales,
                      int64_t count, int block, float scale_2, DType dtype, void* w_NK) {
  with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    if (block == 16) {
      dequantize_matrix<Element, 16>(context, packed, block_scales, count, scale_2, w_NK);
    } else {
      dequantize_matrix<Element, 32>(context, packed, block_scales, count, scale_2, w_NK);
    }
  });
}

void fake_quantize_nvfp4(const Context& context, const MatrixView& x_TK,
                         const float* column_scale_K, int block, float g, void* y_TK) {
  with_element(x_TK.dtype, [&](auto element) {
    using Element = decltype(element);
    if (block == 16) {
      fake_quantize_matrix<Element, 16>(context, x_TK, column_scale_K, g, y_TK);
    } else {
      fake_quantize_matrix<Element, 32>(context, x_TK, column_scale_K, g, y_TK);
    }
  });
}

}  // namespace halftone::cpu
