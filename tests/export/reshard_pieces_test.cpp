#include "export/reshard_pieces.h"

#include <gtest/gtest.h>

#include <random>

#include "export/reshard_builder.h"
#include "kernels/numeric_types.h"

namespace halftone {
namespace {

// Elements of a run, one by one: from -> to.
std::map<int64_t, int64_t> elements(const ElementRun& run) {
  std::map<int64_t, int64_t> pairs;
  for (int64_t i = 0; i < run.count; ++i) {
    for (int64_t j = 0; j < run.block; ++j) {
      pairs[run.from + i * run.from_stride + j] = run.to + i * run.block + j;
    }
  }
  return pairs;
}

void add_part(const RunPart& part, std::map<int64_t, int64_t>& pairs) {
  for (int64_t i = 0; i < part.count; ++i) {
    for (int64_t j = 0; j < part.block; ++j) {
      const bool is_new =
          pairs.emplace(part.from + i * part.stride + j, part.to + i * part.block + j).second;
      EXPECT_TRUE(is_new);
    }
  }
}

TEST(ReshardPieces, PartsOfAllPiecesAreTheRun) {
  std::mt19937 random(1);
  const auto draw = [&](int64_t least, int64_t most) {
    return std::uniform_int_distribution<int64_t>(least, most)(random);
  };
  for (int round = 0; round < 500; ++round) {
    const int64_t stride = draw(1, 12);
    const int64_t column = draw(0, stride - 1);
    const int64_t rows = draw(1, 9);
    const int64_t first = draw(0, 3);
    const ElementRun run{first * stride + column, stride, draw(0, 50), draw(1, stride - column),
                         rows};
    const int64_t end = (first + rows + draw(0, 3)) * stride;
    const int64_t length = draw(1, 4) * stride;
    std::map<int64_t, int64_t> found;
    for (int64_t begin = 0; begin < end; begin += length) {
      add_part(part_of(run, {begin, std::min(begin + length, end)}), found);
    }
    EXPECT_EQ(found, elements(run)) << round;
  }
}

TEST(ReshardPieces, ARunOfOneBlockIsCutAnywhere) {
  const ElementRun run{5, 0, 100, 17, 1};
  std::map<int64_t, int64_t> found;
  for (int64_t begin = 0; begin < 30; begin += 4) add_part(part_of(run, {begin, begin + 4}), found);
  EXPECT_EQ(found, elements(run));
}

TEST(ReshardPieces, LargeTensorsComeInPiecesOfWholeRows) {
  const TensorSpec spec{"w", DType::kBF16, {3000, 4097}};
  const Move half{"w", 0, "a", {2000, 4097, 0, 2000, 3000}};
  const std::vector<ReshardPiece> pieces = pieces_of(spec, {&half});
  ASSERT_GT(pieces.size(), 2u);
  int64_t end = 0;
  for (const ReshardPiece& piece : pieces) {
    EXPECT_EQ(piece.begin, end);
    EXPECT_EQ(piece.begin % 4097, 0);
    EXPECT_LE((piece.end - piece.begin) * 2, int64_t{4} << 20);
    end = piece.end;
  }
  EXPECT_EQ(end, 3000 * 4097);
}

TEST(ReshardPieces, ConversionsRoundOnce) {
  const std::vector<uint16_t> x{0x3f80, 0x8000, 0x3b01, 0xbf7f};  // BF16
  std::vector<float> wide(x.size());
  convert_elements(x.data(), DType::kBF16, wide.data(), DType::kF32, 4, /*plus_one=*/false);
  std::vector<uint16_t> back(x.size());
  convert_elements(wide.data(), DType::kF32, back.data(), DType::kBF16, 4, /*plus_one=*/false);
  EXPECT_EQ(back, x);
  convert_elements(x.data(), DType::kBF16, back.data(), DType::kBF16, 4, /*plus_one=*/true);
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(back[i], bf16_of_float(float_of_bf16(x[i]) + 1.0f));
  }
}

TEST(ReshardBuilder, TensorsThatLoseBitsAreTheRest) {
  const std::map<std::string, TensorSpec> unified{
      {"kept", {"kept", DType::kF32, {4}}},        {"narrowed", {"narrowed", DType::kF32, {4}}},
      {"widened", {"widened", DType::kBF16, {4}}}, {"raised", {"raised", DType::kBF16, {4}}},
      {"unknown", {"unknown", DType::kU8, {4}}},
  };
  ReshardBuilder builder(unified, 1);
  const std::map<std::string, DType> targets{{"kept", DType::kF32},
                                             {"narrowed", DType::kF16},
                                             {"widened", DType::kF32},
                                             {"raised", DType::kBF16}};
  for (const auto& [name, dtype] : targets) {
    builder.declare(0, {name, dtype, {4}});
    builder.copy(name, 0, name, 0, /*writes=*/true, /*returns=*/true, name == "raised");
  }
  const ReshardPlan plan = builder.finish({"file"});
  std::vector<std::string> rest;
  for (const TensorSpec& spec : plan.rest) rest.push_back(spec.name);
  EXPECT_EQ(rest, (std::vector<std::string>{"narrowed", "raised", "unknown"}));
  EXPECT_EQ(plan.files.front().layout.header.find("__metadata__"), std::string::npos);
}

}  // namespace
}  // namespace halftone
