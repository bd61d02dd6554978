#include "dist/partition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace halftone {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(BatchesOfRank, DealsInTurn) {
  EXPECT_THAT(batches_of_rank(7, 0, 3), ElementsAre(0, 3, 6));
  EXPECT_THAT(batches_of_rank(7, 1, 3), ElementsAre(1, 4));
  EXPECT_THAT(batches_of_rank(7, 2, 3), ElementsAre(2, 5));
  EXPECT_THAT(batches_of_rank(3, 0, 1), ElementsAre(0, 1, 2));
}

TEST(BatchesOfRank, LeavesRanksWithoutWork) {
  EXPECT_THAT(batches_of_rank(0, 0, 2), IsEmpty());
  EXPECT_THAT(batches_of_rank(2, 3, 4), IsEmpty());
}

TEST(DealByCost, GivesTheDearestFirstToTheLeastLoaded) {
  // 9 to part 0, 7 to 1, 6 to 1 (13), 5 to 0 (14), 2 to 1 (15).
  EXPECT_THAT(deal_by_cost({5, 9, 2, 7, 6}, 2), ElementsAre(0, 0, 1, 1, 1));
}

TEST(DealByCost, BreaksTiesByTheLowestIndex) {
  EXPECT_THAT(deal_by_cost({4, 4, 4, 4}, 3), ElementsAre(0, 1, 2, 0));
  EXPECT_THAT(deal_by_cost({0, 0, 0}, 2), ElementsAre(0, 0, 0));
}

TEST(DealByCost, TakesNoPiecesAndMorePartsThanPieces) {
  EXPECT_THAT(deal_by_cost({}, 3), IsEmpty());
  EXPECT_THAT(deal_by_cost({1, 8}, 5), ElementsAre(1, 0));
  EXPECT_THAT(deal_by_cost({3, 1, 2}, 1), ElementsAre(0, 0, 0));
}

TEST(DealByCost, KeepsTheLargestLoadNearTheMean) {
  std::vector<int64_t> costs;
  int64_t total = 0;
  for (int64_t i = 0; i < 500; ++i) {
    costs.push_back(1 + i * i % 997);
    total += costs.back();
  }
  const std::vector<int> part_of = deal_by_cost(costs, 8);
  std::vector<int64_t> loads(8, 0);
  for (size_t i = 0; i < costs.size(); ++i) loads[static_cast<size_t>(part_of[i])] += costs[i];
  EXPECT_LE(*std::max_element(loads.begin(), loads.end()), total / 8 + 10);
}

}  // namespace
}  // namespace halftone
