#include "calibrate/statistics.h"

#include <gtest/gtest.h>

#include "dist/reductions.h"
#include "tests/model/tiny_checkpoint.h"
#include "tests/support/mpi_world.h"

namespace halftone::test {
namespace {

constexpr float kAbsent = MaxBucket::kAbsent;

StageSpec layer() {
  return tiny_model(tiny_config())->stages()[1];
}

TEST(Statistics, StartAbsent) {
  const StageStatistics statistics(layer());
  EXPECT_EQ(statistics.input_amax, std::vector<float>(7, kAbsent));
  ASSERT_EQ(statistics.keys.size(), 1u);
  ASSERT_EQ(statistics.values.size(), 1u);
  EXPECT_EQ(statistics.keys[0].amax, kAbsent);
  EXPECT_EQ(statistics.keys[0].rotated_amax, kAbsent);
  EXPECT_EQ(statistics.values[0].amax, kAbsent);
  for (const at::Tensor& channels : statistics.channel_amax) EXPECT_FALSE(channels.defined());
  for (const at::Tensor& channels : unseen_statistics(layer()).channel_amax) {
    EXPECT_TRUE((channels == kAbsent).all().item<bool>());
  }
  EXPECT_EQ(statistics.tokens, std::vector<int64_t>(7, 0));
}

TEST(Statistics, MergeTakesMaximaAndAddsTokens) {
  StageStatistics a = unseen_statistics(layer());
  StageStatistics b = unseen_statistics(layer());
  a.input_amax = {1, 5, kAbsent, 0, 2, 2, 2};
  b.input_amax = {3, 4, kAbsent, kAbsent, 2, 7, 1};
  a.keys[0].amax = 2;
  b.values[0].amax = 3;
  a.channel_amax[1][3] = 4.0f;
  b.channel_amax[1][3] = 6.0f;
  b.channel_amax[1][5] = 1.0f;
  a.tokens[0] = 5;
  b.tokens[0] = 6;
  a.merge(0, b);
  EXPECT_EQ(a.input_amax, (std::vector<float>{3, 5, kAbsent, 0, 2, 7, 2}));
  EXPECT_EQ(a.keys[0].amax, 2.0f);
  EXPECT_EQ(a.values[0].amax, 3.0f);
  EXPECT_EQ(a.channel_amax[1][3].item<float>(), 6.0f);
  EXPECT_EQ(a.channel_amax[1][5].item<float>(), 1.0f);
  EXPECT_EQ(a.channel_amax[1][0].item<float>(), kAbsent);
  EXPECT_EQ(a.tokens[0], 11);
}

TEST(Statistics, ReduceOverRanks) {
  const auto ranks = make_mpi_communicator(test_world());
  const int rank = ranks->rank();
  const int size = ranks->size();
  StageStatistics mine(layer());
  for (size_t i = 0; i < 6; ++i) {
    // Each linear has its largest value on another rank.
    const bool here = static_cast<int>(i) % size == rank;
    mine.input_amax[i] = here ? 10.0f + static_cast<float>(i) : static_cast<float>(rank);
    mine.tokens[i] = (int64_t{1} << 40) + rank;
  }
  if (rank == size - 1) mine.keys[0].amax = 4.5f;
  mine.reduce(*ranks, 0);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(mine.input_amax[i], 10.0f + static_cast<float>(i));
    EXPECT_EQ(mine.tokens[i], size * (int64_t{1} << 40) + size * (size - 1) / 2);
  }
  EXPECT_EQ(mine.input_amax[6], kAbsent) << "what no rank saw stays absent";
  EXPECT_EQ(mine.keys[0].amax, 4.5f);
  EXPECT_EQ(mine.values[0].amax, kAbsent);
}

// Five batches dealt to the ranks; what each showed is known from its number.
TEST(Statistics, ChannelsAndMeansOfBatches) {
  const auto ranks = make_mpi_communicator(test_world());
  constexpr int kBatches = 5;
  StageStatistics mine(layer());
  for (int b = ranks->rank(); b < kBatches; b += ranks->size()) {
    StageStatistics batch = unseen_statistics(layer());
    const auto number = static_cast<float>(b);
    batch.channel_amax[0][b] = 10.0f + number;
    batch.mean_abs[0] = at::full({32}, number);
    // An expert that only two batches reached.
    if (b == 1 || b == 4) batch.mean_abs[1] = at::full({32}, number);
    batch.keys[0].largest = at::full({16}, number);
    batch.keys[0].smallest = at::full({16}, -number);
    batch.keys[0].mean = at::full({16}, 0.1f * number);
    mine.merge(b, batch);
  }
  mine.reduce(*ranks, kBatches);
  for (int64_t b = 0; b < kBatches; ++b) {
    EXPECT_EQ(mine.channel_amax[0][b].item<float>(), 10.0f + static_cast<float>(b));
  }
  EXPECT_EQ(mine.channel_amax[0][kBatches].item<float>(), kAbsent);
  EXPECT_TRUE(at::equal(mine.mean_abs[0], at::full({32}, 2.0f)));
  EXPECT_TRUE(at::equal(mine.mean_abs[1], at::full({32}, 2.5f))) << "of two batches, not of five";
  EXPECT_FALSE(mine.mean_abs[2].defined());
  EXPECT_TRUE(at::equal(mine.keys[0].largest, at::full({16}, 4.0f)));
  EXPECT_TRUE(at::equal(mine.keys[0].smallest, at::full({16}, -4.0f)));
  EXPECT_TRUE(at::allclose(mine.keys[0].mean, at::full({16}, 0.2f)));
  EXPECT_FALSE(mine.values[0].mean.defined());
}

TEST(Statistics, AStageWithoutLinearsReduces) {
  const auto ranks = make_mpi_communicator(test_world());
  StageStatistics empty(tiny_model(tiny_config())->stages()[0]);
  empty.reduce(*ranks, 0);
  EXPECT_TRUE(empty.input_amax.empty());
}

}  // namespace
}  // namespace halftone::test
