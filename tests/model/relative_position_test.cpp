#include "model/relative_position.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <utility>

#include "core/log.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

struct BucketCase {
  RelativePositions positions;
  int64_t length;
  // (distance, bucket) of every distance whose bucket is not that of the one before it.
  std::vector<std::pair<int64_t, int64_t>> changes;
};

// T5Attention._relative_position_bucket of transformers 5.17.
const std::vector<BucketCase> kCases = {
    {{32, 128, true},
     200,
     {{-199, 15}, {-90, 14}, {-63, 13}, {-45, 12}, {-31, 11}, {-22, 10}, {-15, 9}, {-11, 8},
      {-7, 7},    {-6, 6},   {-5, 5},   {-4, 4},   {-3, 3},   {-2, 2},   {-1, 1},  {0, 0},
      {1, 17},    {2, 18},   {3, 19},   {4, 20},   {5, 21},   {6, 22},   {7, 23},  {8, 24},
      {12, 25},   {16, 26},  {23, 27},  {32, 28},  {46, 29},  {64, 30},  {91, 31}}},
    {{32, 128, false},
     200,
     {{-199, 31}, {-112, 30}, {-98, 29}, {-86, 28}, {-76, 27}, {-66, 26}, {-58, 25}, {-51, 24},
      {-45, 23},  {-39, 22},  {-34, 21}, {-30, 20}, {-26, 19}, {-23, 18}, {-20, 17}, {-18, 16},
      {-15, 15},  {-14, 14},  {-13, 13}, {-12, 12}, {-11, 11}, {-10, 10}, {-9, 9},   {-8, 8},
      {-7, 7},    {-6, 6},    {-5, 5},   {-4, 4},   {-3, 3},   {-2, 2},   {-1, 1},   {0, 0}}},
    {{32, 40, false},
     60,
     {{-59, 31}, {-37, 30}, {-35, 29}, {-33, 28}, {-31, 27}, {-30, 26}, {-28, 25}, {-26, 24},
      {-25, 23}, {-23, 22}, {-22, 21}, {-21, 20}, {-20, 19}, {-18, 18}, {-17, 17}, {-16, 16},
      {-15, 15}, {-14, 14}, {-13, 13}, {-12, 12}, {-11, 11}, {-10, 10}, {-9, 9},   {-8, 8},
      {-7, 7},   {-6, 6},   {-5, 5},   {-4, 4},   {-3, 3},   {-2, 2},   {-1, 1},   {0, 0}}},
    {{7, 20, true}, 30, {{-29, 2}, {-4, 1}, {0, 0}, {1, 4}, {5, 5}}},
    {{7, 20, false}, 30, {{-29, 6}, {-12, 5}, {-7, 4}, {-4, 3}, {-2, 2}, {-1, 1}, {0, 0}}},
};

TEST(RelativePositionTest, Buckets) {
  for (const BucketCase& one : kCases) {
    SCOPED_TRACE(concat(one.positions.buckets, " buckets to ", one.positions.max_distance,
                        one.positions.bidirectional ? " both ways" : " backwards"));
    const at::Tensor distances = at::arange(1 - one.length, one.length, at::kLong);
    const at::Tensor buckets = relative_buckets(one.positions, distances);
    std::vector<std::pair<int64_t, int64_t>> changes;
    for (int64_t i = 0; i < distances.size(0); ++i) {
      const int64_t bucket = buckets[i].item<int64_t>();
      if (changes.empty() || changes.back().second != bucket) {
        changes.emplace_back(distances[i].item<int64_t>(), bucket);
      }
    }
    EXPECT_EQ(changes, one.changes);
  }
}

TEST(RelativePositionTest, BiasOfEachQueryAndKey) {
  const at::Tensor table_NH = numbers({32, 3}, 7);
  for (const bool bidirectional : {false, true}) {
    const RelativePositions positions{32, 20, bidirectional};
    constexpr int64_t kLength = 30;
    const at::Tensor bias = relative_bias(positions, table_NH, kLength);
    ASSERT_EQ(bias.sizes(), at::IntArrayRef({1, 3, kLength, kLength}));
    for (int64_t query = 0; query < kLength; ++query) {
      const at::Tensor distances = at::arange(kLength, at::kLong) - query;
      const at::Tensor expected = table_NH.index_select(0, relative_buckets(positions, distances));
      EXPECT_TRUE(at::equal(bias[0].select(1, query), expected.t())) << "query " << query;
    }
  }
}

}  // namespace
}  // namespace halftone::test
