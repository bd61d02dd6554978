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
  EXPECT_EQ(statistics.key_amax, std::vector<float>(1, kAbsent));
  EXPECT_EQ(statistics.value_amax, std::vector<float>(1, kAbsent));
  EXPECT_EQ(statistics.tokens, std::vector<int64_t>(7, 0));
}

TEST(Statistics, MergeTakesMaximaAndAddsTokens) {
  StageStatistics a(layer());
  StageStatistics b(layer());
  a.input_amax = {1, 5, kAbsent, 0, 2, 2, 2};
  b.input_amax = {3, 4, kAbsent, kAbsent, 2, 7, 1};
  a.key_amax = {2};
  b.value_amax = {3};
  a.tokens[0] = 5;
  b.tokens[0] = 6;
  a.merge(b);
  EXPECT_EQ(a.input_amax, (std::vector<float>{3, 5, kAbsent, 0, 2, 7, 2}));
  EXPECT_EQ(a.key_amax[0], 2.0f);
  EXPECT_EQ(a.value_amax[0], 3.0f);
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
  if (rank == size - 1) mine.key_amax[0] = 4.5f;
  mine.reduce(*ranks);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(mine.input_amax[i], 10.0f + static_cast<float>(i));
    EXPECT_EQ(mine.tokens[i], size * (int64_t{1} << 40) + size * (size - 1) / 2);
  }
  EXPECT_EQ(mine.input_amax[6], kAbsent) << "what no rank saw stays absent";
  EXPECT_EQ(mine.key_amax[0], 4.5f);
  EXPECT_EQ(mine.value_amax[0], kAbsent);
}

TEST(Statistics, AStageWithoutLinearsReduces) {
  const auto ranks = make_mpi_communicator(test_world());
  StageStatistics empty(tiny_model(tiny_config())->stages()[0]);
  empty.reduce(*ranks);
  EXPECT_TRUE(empty.input_amax.empty());
}

}  // namespace
}  // namespace halftone::test
