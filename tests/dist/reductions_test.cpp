#include "dist/reductions.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "dist/partition.h"
#include "tests/support/mpi_world.h"

namespace halftone {
namespace {

class ReductionsTest : public testing::Test {
 protected:
  int rank() const { return communicator_->rank(); }
  int size() const { return communicator_->size(); }

  std::unique_ptr<Communicator> communicator_ = make_mpi_communicator(test_world());
};

TEST_F(ReductionsTest, MaxBucketReducesAllPartsAtOnce) {
  std::vector<float> wide(1000);
  for (size_t i = 0; i < wide.size(); ++i) {
    wide[i] = static_cast<float>((i * 7 + static_cast<size_t>(rank()) * 13) % 101);
  }
  float lone = static_cast<float>(rank()) + 0.1f;
  std::vector<float> none;
  MaxBucket bucket;
  bucket.add(wide);
  bucket.add(none);
  bucket.add({&lone, 1});
  bucket.reduce(*communicator_);
  EXPECT_EQ(lone, static_cast<float>(size() - 1) + 0.1f);
  for (size_t i = 0; i < wide.size(); ++i) {
    size_t expected = 0;
    for (int r = 0; r < size(); ++r) {
      expected = std::max(expected, (i * 7 + static_cast<size_t>(r) * 13) % 101);
    }
    ASSERT_EQ(wide[i], static_cast<float>(expected)) << i;
  }
}

TEST_F(ReductionsTest, MaxBucketKeepsWhatNoRankSawAbsent) {
  // Seen by the last rank only, by none, and as a zero by rank 0.
  std::vector<float> values = {rank() == size() - 1 ? 2.5f : MaxBucket::kAbsent, MaxBucket::kAbsent,
                               rank() == 0 ? 0.0f : MaxBucket::kAbsent};
  MaxBucket bucket;
  bucket.add(values);
  bucket.reduce(*communicator_);
  EXPECT_EQ(values, (std::vector<float>{2.5f, MaxBucket::kAbsent, 0.0f}));
}

TEST_F(ReductionsTest, MaxBucketStartsAnewAfterReduce) {
  float value = 1.0f;
  MaxBucket bucket;
  bucket.reduce(*communicator_);
  bucket.add({&value, 1});
  bucket.reduce(*communicator_);
  value = static_cast<float>(rank()) - 10.0f;
  bucket.reduce(*communicator_);
  EXPECT_EQ(value, static_cast<float>(rank()) - 10.0f);
}

// Magnitudes far apart, so that another order or precision gives other bits.
float contribution_at(int64_t batch, int64_t column) {
  const auto mixed = static_cast<uint32_t>(batch * 2654435761 + column * 40503 + 12345);
  const int exponent = static_cast<int>(mixed >> 8) % 60 - 30;
  return std::ldexp(static_cast<float>(mixed % 16777213) - 8000000.0f, exponent);
}

void expect_sums(Communicator& communicator, int64_t width, int64_t batches) {
  BatchOrderedSums sums(width, batches, communicator);
  std::vector<float> contribution(static_cast<size_t>(width));
  for (const int64_t batch : batches_of_rank(batches, communicator.rank(), communicator.size())) {
    for (int64_t i = 0; i < width; ++i) {
      contribution[static_cast<size_t>(i)] = contribution_at(batch, i);
    }
    sums.set(batch, contribution);
  }
  const std::vector<double> reduced = sums.reduce(communicator);
  std::vector<double> expected(static_cast<size_t>(width), 0.0);
  for (int64_t batch = 0; batch < batches; ++batch) {
    for (int64_t i = 0; i < width; ++i) {
      expected[static_cast<size_t>(i)] += static_cast<double>(contribution_at(batch, i));
    }
  }
  ASSERT_EQ(reduced.size(), expected.size());
  EXPECT_TRUE(reduced.empty() ||
              std::memcmp(reduced.data(), expected.data(), expected.size() * sizeof(double)) == 0)
      << width << " sums over " << batches << " batches";
}

TEST_F(ReductionsTest, SumsHaveTheSameBitsOnAnyNumberOfRanks) {
  for (const int64_t batches : {1, 2, 3, 7, 64}) {
    for (const int64_t width : {0, 1, 33, 4096}) expect_sums(*communicator_, width, batches);
  }
}

TEST_F(ReductionsTest, SumsGoInPiecesOfColumns) {
  // 1024 batches of 20000 columns are 78 MiB, more than one piece.
  expect_sums(*communicator_, 20000, 1024);
}

TEST_F(ReductionsTest, SumsOfNoBatchesAreZero) {
  const BatchOrderedSums sums(3, 0, *communicator_);
  EXPECT_EQ(sums.reduce(*communicator_), std::vector<double>(3, 0.0));
}

TEST_F(ReductionsTest, ABatchThatWasNotSetAddsNothing) {
  BatchOrderedSums sums(1, 5, *communicator_);
  const float one = 1.0f;
  if (rank() == 3 % size()) sums.set(3, {&one, 1});
  EXPECT_EQ(sums.reduce(*communicator_), std::vector<double>(1, 1.0));
}

}  // namespace
}  // namespace halftone
