#include "kernels/nf4_cpu.h"

#include <algorithm>

#include "kernels/cpu_loops.h"
#include "kernels/nf4_elements.h"

namespace halftone::cpu {
namespace {

constexpr int64_t kTile = 512;

// NaN if there is one: its magnitude is above infinity's.
template <typename Element>
float absmax_of(const typename Element::Storage* w, int64_t count) {
  using Bits = decltype(Element::magnitude(w[0]));
  Bits largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, Element::magnitude(w[i]));
  return F32Element::store(Element::of_magnitude(largest));
}

// `size` elements of one block; `choices` are the sixteen numbers of Way::prepare.
template <typename Way, typename Element>
void quantize_block(const typename Element::Storage* w, int64_t size, bool whole,
                    const float* choices, float* absmax, uint8_t* __restrict__ packed) {
  const float largest = absmax_of<Element>(w, size);
  *absmax = Way::stored(largest, whole);
  const float factor = Way::factor_of(largest, whole);
  uint8_t codes[kTile];
  for (int64_t start = 0; start < size; start += kTile) {
    const int64_t count = std::min(kTile, size - start);
    for (int64_t i = 0; i < count; ++i) {
      codes[i] = Way::code(Element::load(w[start + i]), factor, whole, choices);
    }
    if (count % 2 != 0) codes[count] = Way::code(0.0f, 1.0f, whole, choices);
    for (int64_t i = 0; i < (count + 1) / 2; ++i) {
      packed[start / 2 + i] = static_cast<uint8_t>((codes[2 * i] << 4) | codes[2 * i + 1]);
    }
  }
}

template <typename Way, typename Element>
void quantize(const typename Element::Storage* w, int64_t count, int64_t block, int64_t first,
              int64_t last, const float* choices, float* absmax, uint8_t* packed) {
  for (int64_t b = first; b < last; ++b) {
    const int64_t at = b * block;
    const int64_t size = std::min(block, count - at);
    quantize_block<Way, Element>(w + at, size, size == block, choices, absmax + b, packed + at / 2);
  }
}

template <typename Way, typename Element>
void quantize_all(const Context& context, const MatrixView& w_NK, int64_t block, const float* table,
                  float* absmax, uint8_t* packed) {
  const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
  const int64_t count = w_NK.count();
  float choices[kNf4Entries];
  for (int i = 0; i < kNf4Entries; ++i) choices[i] = Way::prepare(table, i);
  const int64_t blocks = blocks_in(count, block);
  const int64_t grain = std::max<int64_t>(1, kGrain / block);
  for_ranges(context, blocks, grain, [&](int64_t begin, int64_t end) {
    const float* const chosen_from = choices;
    vectorized<quantize<Way, Element>>(w, count, block, begin, end, chosen_from, absmax, packed);
  });
}

template <typename Element>
void dequantize_block(const uint8_t* packed, int64_t size, float absmax, const float* table,
                      typename Element::Storage* __restrict__ w) {
  typename Element::Storage values[kNf4Entries];
  for (int i = 0; i < kNf4Entries; ++i) values[i] = Element::store(table[i] * absmax);
  for (int64_t i = 0; i < size / 2; ++i) {
    w[2 * i] = values[packed[i] >> 4];
    w[2 * i + 1] = values[packed[i] & 15u];
  }
  if (size % 2 != 0) w[size - 1] = values[packed[size / 2] >> 4];
}

}  // namespace

void quantize_nf4(const Context& context, const MatrixView& w, int64_t block, const float* table,
                  float* absmax, uint8_t* packed) {
  with_element(w.dtype, [&](auto element) {
    quantize_all<Nf4ByMidpoints, decltype(element)>(context, w, block, table, absmax, packed);
  });
}

void quantize_nf4_in_own_type(const Context& context, const MatrixView& w, int64_t block,
                              const float* table, float* absmax, uint8_t* packed) {
  with_element(w.dtype, [&](auto element) {
    using Element = decltype(element);
    quantize_all<Nf4InType<Element>, Element>(context, w, block, table, absmax, packed);
  });
}

void dequantize_nf4(const Context& context, const uint8_t* packed, const float* absmax,
                    int64_t block, const float* table, int64_t count, DType dtype, void* w) {
  const int64_t blocks = blocks_in(count, block);
  const int64_t grain = std::max<int64_t>(1, kGrain / block);
  with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    auto* values = static_cast<typename Element::Storage*>(w);
    for_ranges(context, blocks, grain, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const int64_t at = b * block;
        dequantize_block<Element>(packed + at / 2, std::min(block, count - at), absmax[b], table,
                                  values + at);
      }
    });
  });
}

}  // namespace halftone::cpu
