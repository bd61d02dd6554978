#include "kernels/int8_cpu.h"

#include <algorithm>

#include "kernels/cpu_loops.h"
#include "kernels/integer_elements.h"

namespace halftone::cpu {
namespace {

template <typename Element>
void quantize(const typename Element::Storage* w, int64_t count, float scale,
              int8_t* __restrict__ codes) {
  for (int64_t i = 0; i < count; ++i) codes[i] = int8_code(Element::load(w[i]), scale);
}

template <typename Element>
void dequantize(const int8_t* codes, int64_t count, float scale,
                typename Element::Storage* __restrict__ w) {
  for (int64_t i = 0; i < count; ++i) {
    w[i] = Element::store(static_cast<float>(codes[i]) * scale);
  }
}

// x and y may be the same: a tile lies between them, so that the compiler need not ask.
template <typename Element>
void fake_quantize(const typename Element::Storage* x, int64_t count, float scale,
                   typename Element::Storage* y) {
  constexpr int64_t kTile = 256;
  float tile[kTile];
  for (int64_t start = 0; start < count; start += kTile) {
    const int64_t size = std::min(kTile, count - start);
    for (int64_t i = 0; i < size; ++i) {
      tile[i] = fake_integer(Element::load(x[start + i]), scale, -128.0f, 127.0f);
    }
    for (int64_t i = 0; i < size; ++i) y[start + i] = Element::store(tile[i]);
  }
}

}  // namespace

void quantize_int8_rows(const Context& context, const MatrixView& w_NK, const float* scale_N,
                        int8_t* codes_NK) {
  with_element(w_NK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    for_row_pieces(context, w_NK.rows, w_NK.cols, [&](int64_t row, int64_t begin, int64_t end) {
      vectorized<quantize<Element>>(w + begin, end - begin, scale_N[row], codes_NK + begin);
    });
  });
}

void dequantize_int8_rows(const Context& context, const int8_t* codes_NK, int64_t rows,
                          int64_t cols, const float* scale_N, DType dtype, void* w_NK) {
  with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    auto* w = static_cast<typename Element::Storage*>(w_NK);
    for_row_pieces(context, rows, cols, [&](int64_t row, int64_t begin, int64_t end) {
      vectorized<dequantize<Element>>(codes_NK + begin, end - begin, scale_N[row], w + begin);
    });
  });
}

void fake_quantize_int8(const Context& context, const MatrixView& x_TK, float amax, void* y_TK) {
  with_element(x_TK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* x = static_cast<const typename Element::Storage*>(x_TK.data);
    auto* y = static_cast<typename Element::Storage*>(y_TK);
    for_ranges(context, x_TK.count(), kGrain, [&](int64_t begin, int64_t end) {
      if (is_no_amax(amax)) {
        std::fill(y + begin, y + end, Element::store(0.0f));
      } else {
        const float scale = 127.0f / amax;
        vectorized<fake_quantize<Element>>(x + begin, end - begin, scale, y + begin);
      }
    });
  });
}

}  // namespace halftone::cpu
