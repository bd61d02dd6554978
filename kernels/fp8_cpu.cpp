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

}  // namespace halftone::cpu
