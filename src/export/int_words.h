#pragma once

#include <ATen/core/Tensor.h>

#include <array>

namespace halftone {

// Which of the neighbouring codes lies in a word's slot i, the lowest bits first.
using SlotOrder = std::array<int, 8>;
inline constexpr SlotOrder kPlainOrder{0, 1, 2, 3, 4, 5, 6, 7};

// Codes uint8 [rows, cols] of `bits` (4 or 8) as int32 [rows, ceil(cols * bits / 32)], contiguous;
// what is missing in the last word is 0. An order other than the plain one is for 4 bits.
at::Tensor pack_words(const at::Tensor& codes_RC, int bits, const SlotOrder& order = kPlainOrder);
// The way back: the first `cols` codes of each row.
at::Tensor unpack_words(const at::Tensor& words_RW, int bits, int64_t cols,
                        const SlotOrder& order = kPlainOrder);

// The codes of an INT4 weight in its unified form, uint8 [out, in] with 8 for zero, and back
// (formats-and-hf-export.md, 2.7).
at::Tensor int4_codes(const at::Tensor& packed);
at::Tensor packed_int4(const at::Tensor& codes_NK);

}  // namespace halftone
