#include "kernels/nvfp4_cpu.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>

#include "kernels/cpu_loops.h"
#include "kernels/nvfp4_elements.h"

namespace halftone::cpu {
namespace {

static_assert(std::endian::native == std::endian::little, "two codes are packed as one integer");

// Blocks that go through the stages together: their codes and scales stay in the first-level cache,
// and each stage is a loop that vectorizes by itself.
constexpr int64_t kBlocks = 64;

template <typename Element, int64_t kBlock>
float amax_of_block(const typename Element::Storage* x) {
  using Bits = std::conditional_t<sizeof(typename Element::Storage) == 2, uint16_t, uint32_t>;
  Bits largest = 0;
  for (int64_t i = 0; i < kBlock; ++i) {
    largest = std::max(largest, static_cast<Bits>(Element::magnitude(x[i])));
  }
  return Element::of_magnitude(largest);
}

// Sixteen neighbours in a vector of the compiler's: left to itself it vectorizes across the blocks,
// which costs a transposition.
typedef float Sixteen __attribute__((vector_size(64)));

template <int64_t kBlock>
void divide_blocks(float* values, const float* steps, int64_t blocks) {
  for (int64_t i = 0; i < blocks * kBlock; i += 16) {
    Sixteen run;
    std::memcpy(&run, values + i, sizeof(run));
    run /= steps[i / kBlock];
    std::memcpy(values + i, &run, sizeof(run));
  }
}

template <int64_t kBlock>
void multiply_blocks(float* values, const float* steps, int64_t blocks) {
  for (int64_t i = 0; i < blocks * kBlock; i += 16) {
    Sixteen run;
    std::memcpy(&run, values + i, sizeof(run));
    run *= steps[i / kBlock];
    std::memcpy(values + i, &run, sizeof(run));
  }
}

template <typename Element, int64_t kBlock>
void quantize(const typename Element::Storage* w, int64_t blocks, float scale_2,
              uint8_t* __restrict__ packed, uint8_t* __restrict__ block_scales) {
  const float d = 6.0f * scale_2;
  float steps[kBlocks];
  float values[kBlocks * kBlock];
  uint8_t codes[kBlocks * kBlock];
  for (int64_t start = 0; start < blocks; start += kBlocks) {
    const int64_t size = std::min(kBlocks, blocks - start);
    const auto* tile = w + start * kBlock;
    for (int64_t b = 0; b < size; ++b) {
      steps[b] = amax_of_block<Element, kBlock>(tile + b * kBlock);
    }
    for (int64_t b = 0; b < size; ++b) {
      const uint8_t code = nvfp4_block_scale(steps[b], d);
      block_scales[start + b] = code;
      steps[b] = float_of_e4m3(code) * scale_2;
    }
    for (int64_t i = 0; i < size * kBlock; ++i) values[i] = Element::load(tile[i]);
    divide_blocks<kBlock>(values, steps, size);
    for (int64_t i = 0; i < size * kBlock; ++i) codes[i] = e2m1_of_float(values[i]);
    uint8_t* const bytes = packed + start * kBlock / 2;
    for (int64_t i = 0; i < size * kBlock / 2; ++i) {
      uint16_t pair;  // even | odd << 8
      std::memcpy(&pair, codes + 2 * i, sizeof(pair));
      bytes[i] = static_cast<uint8_t>(pair | (pair >> 4));
    }
  }
}

template <typename Element, int64_t kBlock>
void dequantize(const uint8_t* packed, const uint8_t* block_scales, int64_t blocks, float scale_2,
                typename Element::Storage* __restrict__ w) {
  float steps[kBlocks];
  float values[kBlocks * kBlock];
  uint8_t codes[kBlocks * kBlock];
  for (int64_t start = 0; start < blocks; start += kBlocks) {
    const int64_t size = std::min(kBlocks, blocks - start);
    for (int64_t b = 0; b < size; ++b) steps[b] = float_of_e4m3(block_scales[start + b]) * scale_2;
    const uint8_t* const bytes = packed + start * kBlock / 2;
    for (int64_t i = 0; i < size * kBlock / 2; ++i) {
      codes[2 * i] = bytes[i] & 15u;
      codes[2 * i + 1] = bytes[i] >> 4;
    }
    auto* const tile = w + start * kBlock;
    for (int64_t i = 0; i < size * kBlock; ++i) values[i] = float_of_e2m1(codes[i]);
    multiply_blocks<kBlock>(values, steps, size);
    for (int64_t i = 0; i < size * kBlock; ++i) tile[i] = Element::store(values[i]);
  }
}

// x and y may be the same: a tile lies between them, so that the compiler need not ask.
template <typename Element>
void fake_quantize(const typename Element::Storage* x, int64_t blocks, float g,
                   typename Element::Storage* y) {
  constexpr int64_t kBlock = kNvfp4Activation;
  const float d = 6.0f * g;
  float steps[kBlocks];
  float values[kBlocks * kBlock];
  for (int64_t start = 0; start < blocks; start += kBlocks) {
    const int64_t size = std::min(kBlocks, blocks - start);
    const auto* const from = x + start * kBlock;
    auto* const to = y + start * kBlock;
    for (int64_t b = 0; b < size; ++b) {
      steps[b] = amax_of_block<Element, kBlock>(from + b * kBlock);
    }
    for (int64_t b = 0; b < size; ++b) steps[b] = fake_nvfp4_step(steps[b], d, g);
    for (int64_t i = 0; i < size * kBlock; ++i) values[i] = Element::load(from[i]);
    divide_blocks<kBlock>(values, steps, size);
    for (int64_t i = 0; i < size * kBlock; ++i) values[i] = round_to_e2m1(values[i]);
    multiply_blocks<kBlock>(values, steps, size);
    for (int64_t i = 0; i < size * kBlock; ++i) to[i] = Element::store(values[i]);
  }
}

// A last block that is not full is padded with zeros.
template <typename Element>
void fake_quantize_row(const typename Element::Storage* x, int64_t cols, float g,
                       typename Element::Storage* y) {
  constexpr int64_t kBlock = kNvfp4Activation;
  const int64_t full = cols / kBlock;
  vectorized<fake_quantize<Element>>(x, full, g, y);
  if (full * kBlock == cols) return;
  typename Element::Storage last[kBlock] = {};
  std::copy(x + full * kBlock, x + cols, last);
  fake_quantize<Element>(last, 1, g, last);
  std::copy(last, last + cols % kBlock, y + full * kBlock);
}

template <typename Element, int64_t kBlock>
void quantize_matrix(const Context& context, const MatrixView& w_NK, float scale_2, uint8_t* packed,
                     uint8_t* block_scales) {
  const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
  for_ranges(context, w_NK.count() / kBlock, kGrain / kBlock, [&](int64_t begin, int64_t end) {
    vectorized<quantize<Element, kBlock>>(w + begin * kBlock, end - begin, scale_2,
                                          packed + begin * kBlock / 2, block_scales + begin);
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

void fake_quantize_nvfp4(const Context& context, const MatrixView& x_TK, float g, void* y_TK) {
  with_element(x_TK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* x = static_cast<const typename Element::Storage*>(x_TK.data);
    auto* y = static_cast<typename Element::Storage*>(y_TK);
    const int64_t cols = x_TK.cols;
    const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, cols));
    for_ranges(context, x_TK.rows, grain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        fake_quantize_row<Element>(x + row * cols, cols, g, y + row * cols);
      }
    });
  });
}

}  // namespace halftone::cpu
