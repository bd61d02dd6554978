#include "kernels/nvfp4_cpu.h"

#include <algorithm>
#include <type_traits>

#include "kernels/cpu_loops.h"
#include "kernels/nvfp4_elements.h"

namespace halftone::cpu {
namespace {

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

template <typename Element, int64_t kBlock>
void quantize(const typename Element::Storage* w, int64_t blocks, float scale_2,
              uint8_t* __restrict__ packed, uint8_t* __restrict__ block_scales) {
  const float d = 6.0f * scale_2;
  float steps[kBlocks];
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
    for (int64_t b = 0; b < size; ++b) {
      for (int64_t i = 0; i < kBlock; ++i) {
        const int64_t at = b * kBlock + i;
        codes[at] = e2m1_of_float(Element::load(tile[at]) / steps[b]);
      }
    }
    uint8_t* const bytes = packed + start * kBlock / 2;
    for (int64_t i = 0; i < size * kBlock / 2; ++i) {
      bytes[i] = static_cast<uint8_t>(codes[2 * i] | (codes[2 * i + 1] << 4));
    }
  }
}

template <typename Element, int64_t kBlock>
void dequantize(const uint8_t* packed, const uint8_t* block_scales, int64_t blocks, float scale_2,
                typename Element::Storage* __restrict__ w) {
  for (int64_t b = 0; b < blocks; ++b) {
    const float step = float_of_e4m3(block_scales[b]) * scale_2;
    float values[kBlock];
    for (int64_t i = 0; i < kBlock / 2; ++i) {
      const uint32_t byte = packed[b * kBlock / 2 + i];
      values[2 * i] = float_of_e2m1(byte & 15u) * step;
      values[2 * i + 1] = float_of_e2m1(byte >> 4) * step;
    }
    for (int64_t i = 0; i < kBlock; ++i) w[b * kBlock + i] = Element::store(values[i]);
  }
}

// x and y may be the same: a block is read before it is written.
template <typename Element>
void fake_quantize_row(const typename Element::Storage* x, int64_t cols, float g,
                       typename Element::Storage* y) {
  constexpr int64_t kBlock = kNvfp4Activation;
  const float d = 6.0f * g;
  for (int64_t start = 0; start < cols; start += kBlock) {
    const int64_t size = std::min(kBlock, cols - start);
    typename Element::Storage block[kBlock] = {};
    for (int64_t i = 0; i < size; ++i) block[i] = x[start + i];
    const float step = fake_nvfp4_step(amax_of_block<Element, kBlock>(block), d, g);
    for (int64_t i = 0; i < kBlock; ++i) {
      block[i] = Element::store(fake_nvfp4(Element::load(block[i]), step));
    }
    for (int64_t i = 0; i < size; ++i) y[start + i] = block[i];
  }
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
        vectorized<fake_quantize_row<Element>>(x + row * cols, cols, g, y + row * cols);
      }
    });
  });
}

}  // namespace halftone::cpu
