#include "dist/communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "core/log.h"
#include "dist/mpi_communicator.h"
#include "tests/dist/collective_cases.h"
#include "tests/support/mpi_world.h"

namespace halftone {
namespace {

class HostBuffer {
 public:
  explicit HostBuffer(int64_t bytes) : bytes_(static_cast<size_t>(bytes)) {}

  void* data() { return bytes_.data(); }
  void upload(const void* from, int64_t bytes) {
    if (bytes > 0) std::memcpy(bytes_.data(), from, static_cast<size_t>(bytes));
  }
  void download(void* to, int64_t bytes) const {
    if (bytes > 0) std::memcpy(to, bytes_.data(), static_cast<size_t>(bytes));
  }

 private:
  std::vector<uint8_t> bytes_;
};

// With messages as long as MPI allows, and with ones that make the larger cases go in pieces.
class MpiCommunicatorTest : public testing::TestWithParam<int64_t> {
 protected:
  std::unique_ptr<Communicator> communicator_ = make_mpi_communicator(test_world(), GetParam());
};

TEST_P(MpiCommunicatorTest, KnowsItsPlace) {
  EXPECT_EQ(communicator_->rank(), test_world().rank());
  EXPECT_EQ(communicator_->size(), test_world().size());
  EXPECT_EQ(communicator_->device(), Device::kCpu);
}

TEST_P(MpiCommunicatorTest, AllReduces) {
  cases::expect_all_reduced<HostBuffer>(*communicator_);
}
TEST_P(MpiCommunicatorTest, Broadcasts) {
  cases::expect_broadcast<HostBuffer>(*communicator_);
}
TEST_P(MpiCommunicatorTest, Gathers) {
  cases::expect_gathered<HostBuffer>(*communicator_);
}

INSTANTIATE_TEST_SUITE_P(LargestMessage, MpiCommunicatorTest,
                         testing::Values(int64_t{1} << 30, int64_t{100003}, int64_t{8192}));

TEST(MpiCommunicator, KeepsMaximaExact) {
  using Limits = std::numeric_limits<float>;
  const std::array<float, 6> values = {Limits::denorm_min(), 0.1f,          -Limits::max(),
                                       Limits::infinity(),   Limits::max(), -1.0f};
  const auto communicator = make_mpi_communicator(test_world());
  const int last = communicator->size() - 1;
  // The last rank has the values, the others what lies just below.
  std::array<float, 6> mine = values;
  if (communicator->rank() != last) {
    for (float& value : mine) value = std::nextafter(value, -Limits::infinity());
  }
  communicator->all_reduce(mine.data(), 6, DType::kF32, ReduceOp::kMax);
  EXPECT_EQ(std::memcmp(mine.data(), values.data(), sizeof(values)), 0);
}

TEST(MpiCommunicator, BarrierWaitsForTheLastRank) {
  const auto communicator = make_mpi_communicator(test_world());
  for (int i = 0; i < 10; ++i) communicator->barrier();
}

// The receiver of a longer message than it asked for is told.
TEST(MpiCommunicator, FailureNamesRankHostAndOperation) {
  if (test_world().size() != 2) GTEST_SKIP() << "for two ranks: others would wait";
  const auto communicator = make_mpi_communicator(test_world());
  std::array<int64_t, 2> data{};
  if (communicator->rank() == 0) {
    communicator->broadcast(data.data(), 16, 0);
    return;
  }
  try {
    communicator->broadcast(data.data(), 8, 0);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const PeerError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(concat("broadcast failed on rank 1 (host ",
                                                        test_world().host(), "): ")));
  }
}

// Two communicators do not hear each other's messages.
TEST(MpiCommunicator, IsApartFromOthers) {
  const auto first = make_mpi_communicator(test_world());
  const auto second = make_mpi_communicator(test_world());
  int32_t one = 1;
  int32_t two = 2;
  first->all_reduce(&one, 1, DType::kI32, ReduceOp::kSum);
  second->all_reduce(&two, 1, DType::kI32, ReduceOp::kSum);
  EXPECT_EQ(one, test_world().size());
  EXPECT_EQ(two, 2 * test_world().size());
}

}  // namespace
}  // namespace halftone
