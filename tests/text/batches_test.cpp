#include "text/batches.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace halftone {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::vector<Sample> kSamples = {{{1, 2, 3}, ""}, {{4}, ""}, {{5, 6}, ""}};

TEST(BatchesTest, PadsOnTheLeft) {
  const auto batches = make_batches(kSamples, 2, 9, PadSide::kLeft, false);
  ASSERT_EQ(batches.size(), 2U);
  EXPECT_EQ(batches[0].rows, 2);
  EXPECT_EQ(batches[0].length, 3);
  EXPECT_THAT(batches[0].input_ids, ElementsAre(1, 2, 3, 9, 9, 4));
  EXPECT_THAT(batches[0].mask, ElementsAre(1, 1, 1, 0, 0, 1));
  EXPECT_EQ(batches[0].tokens(), 4);
  EXPECT_TRUE(batches[0].padded());
  // The remainder: one row of its own length.
  EXPECT_EQ(batches[1].rows, 1);
  EXPECT_THAT(batches[1].input_ids, ElementsAre(5, 6));
  EXPECT_FALSE(batches[1].padded());
}

TEST(BatchesTest, PadsOnTheRight) {
  const auto batches = make_batches(kSamples, 3, 9, PadSide::kRight, false);
  ASSERT_EQ(batches.size(), 1U);
  EXPECT_THAT(batches[0].input_ids, ElementsAre(1, 2, 3, 4, 9, 9, 5, 6, 9));
  EXPECT_THAT(batches[0].mask, ElementsAre(1, 1, 1, 1, 0, 0, 1, 1, 0));
}

TEST(BatchesTest, CommonLengthIsThatOfTheLongestSample) {
  const auto batches = make_batches(kSamples, 1, 0, PadSide::kLeft, true);
  ASSERT_EQ(batches.size(), 3U);
  for (const Batch& batch : batches) EXPECT_EQ(batch.length, 3);
  EXPECT_THAT(batches[1].input_ids, ElementsAre(0, 0, 4));
  EXPECT_THAT(batches[2].mask, ElementsAre(0, 1, 1));
}

// The pad id may be a real token: only the mask tells them apart.
TEST(BatchesTest, MaskDoesNotDependOnThePadId) {
  const auto batches = make_batches(kSamples, 3, 1, PadSide::kLeft, false);
  EXPECT_EQ(batches.at(0).tokens(), 6);
}

TEST(BatchesTest, NothingGivesNoBatch) {
  EXPECT_THAT(make_batches({}, 4, 0, PadSide::kLeft, true), IsEmpty());
}

}  // namespace
}  // namespace halftone
