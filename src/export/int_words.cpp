#include "export/int_words.h"

#include <ATen/ATen.h>

#include "kernels/check.h"

namespace halftone {
namespace {

constexpr uint8_t kZero = 8;

}  // namespace

at::Tensor pack_words(const at::Tensor& codes_RC, int bits, const SlotOrder& order) {
  check(bits == 4 || bits == 8, "words hold codes of 4 or 8 bits");
  const at::Tensor codes = codes_RC.contiguous();
  const int64_t rows = codes.size(0);
  const int64_t cols = codes.size(1);
  const int64_t per_word = 32 / bits;
  const int64_t words = (cols + per_word - 1) / per_word;
  at::Tensor packed = at::empty({rows, words}, codes.options().dtype(at::kInt));
  const auto* from = codes.const_data_ptr<uint8_t>();
  auto* to = packed.mutable_data_ptr<int32_t>();
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t word = 0; word < words; ++word) {
      uint32_t value = 0;
      for (int64_t slot = 0; slot < per_word; ++slot) {
        const int64_t col = word * per_word + order[static_cast<size_t>(slot)];
        if (col < cols) value |= uint32_t{from[row * cols + col]} << (slot * bits);
      }
      to[row * words + word] = static_cast<int32_t>(value);
    }
  }
  return packed;
}

at::Tensor unpack_words(const at::Tensor& words_RW, int bits, int64_t cols,
                        const SlotOrder& order) {
  check(bits == 4 || bits == 8, "words hold codes of 4 or 8 bits");
  const at::Tensor packed = words_RW.contiguous();
  const int64_t rows = packed.size(0);
  const int64_t words = packed.size(1);
  const int64_t per_word = 32 / bits;
  check(cols <= words * per_word, "the words hold all codes");
  at::Tensor codes = at::empty({rows, cols}, packed.options().dtype(at::kByte));
  const auto* from = packed.const_data_ptr<int32_t>();
  auto* to = codes.mutable_data_ptr<uint8_t>();
  const uint32_t mask = (1u << bits) - 1u;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t word = 0; word < words; ++word) {
      const auto value = static_cast<uint32_t>(from[row * words + word]);
      for (int64_t slot = 0; slot < per_word; ++slot) {
        const int64_t col = word * per_word + order[static_cast<size_t>(slot)];
        if (col >= cols) continue;
        to[row * cols + col] = static_cast<uint8_t>(value >> (slot * bits) & mask);
      }
    }
  }
  return codes;
}

at::Tensor int4_codes(const at::Tensor& packed) {
  const at::Tensor both =
      at::stack({at::bitwise_and(packed, 15), at::bitwise_right_shift(packed, 4)}, 1);
  return at::bitwise_xor(both.reshape({packed.size(0) * 2, packed.size(1)}), kZero);
}

at::Tensor packed_int4(const at::Tensor& codes_NK) {
  const at::Tensor signed_NK = at::bitwise_xor(codes_NK, kZero);
  const at::Tensor pairs = signed_NK.view({codes_NK.size(0) / 2, 2, codes_NK.size(1)});
  return at::bitwise_or(pairs.select(1, 0), at::bitwise_left_shift(pairs.select(1, 1), 4));
}

}  // namespace halftone
