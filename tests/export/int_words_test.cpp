#include "export/int_words.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace halftone {
namespace {

constexpr SlotOrder kAwq{0, 2, 4, 6, 1, 3, 5, 7};

at::Tensor bytes(const std::vector<int>& values, int64_t rows) {
  return at::tensor(values, at::kInt).to(at::kByte).view({rows, -1});
}

at::Tensor words(const std::vector<int64_t>& values, int64_t rows) {
  return at::tensor(values, at::kLong).to(at::kInt).view({rows, -1});
}

TEST(IntWords, TheFirstCodeLiesInTheLowestBits) {
  const at::Tensor codes = bytes({1, 2, 3, 4, 5, 6, 7, 8, 15, 0, 0, 0, 0, 0, 0, 9}, 2);
  EXPECT_TRUE(at::equal(pack_words(codes, 4), words({0x87654321, 0x9000000f}, 2)));
}

TEST(IntWords, AwqInterleavesEvenAndOddCodes) {
  const at::Tensor codes = bytes({0, 1, 2, 3, 4, 5, 6, 7}, 1);
  EXPECT_TRUE(at::equal(pack_words(codes, 4, kAwq), words({0x75316420}, 1)));
}

TEST(IntWords, ALastWordIsFilledWithZeros) {
  EXPECT_TRUE(at::equal(pack_words(bytes({1, 2, 255, 128, 7}, 1), 8), words({0x80ff0201, 7}, 1)));
}

TEST(IntWords, UnpackingIsTheWayBack) {
  at::Tensor codes = at::arange(3 * 40, at::kInt).remainder(16).to(at::kByte).view({3, 40});
  EXPECT_TRUE(at::equal(unpack_words(pack_words(codes, 4), 4, 40), codes));
  EXPECT_TRUE(at::equal(unpack_words(pack_words(codes, 4, kAwq), 4, 40, kAwq), codes));
  codes = codes.slice(1, 0, 37).contiguous();
  EXPECT_TRUE(at::equal(unpack_words(pack_words(codes, 8), 8, 37), codes));
}

TEST(IntWords, UnifiedInt4KeepsTwoRowsInAByte) {
  // Row 0: -8 and 7; row 1: 0 and -1.
  const at::Tensor packed = bytes({0x08, 0xf7}, 1);
  const at::Tensor codes = bytes({0, 15, 8, 7}, 2);
  EXPECT_TRUE(at::equal(int4_codes(packed), codes));
  EXPECT_TRUE(at::equal(packed_int4(codes), packed));
}

}  // namespace
}  // namespace halftone
