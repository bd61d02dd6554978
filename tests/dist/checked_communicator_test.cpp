#include "dist/checked_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/error.h"
#include "core/log.h"
#include "tests/support/mpi_world.h"

namespace halftone {
namespace {

using testing::HasSubstr;
using Action = std::function<void(Communicator&)>;

class CheckedCommunicatorTest : public testing::Test {
 protected:
  // What the last rank's `wrong` call against the others' `right` call is answered with.
  std::string complaint(const Action& right, const Action& wrong) {
    try {
      (communicator_->rank() == communicator_->size() - 1 ? wrong : right)(*communicator_);
    } catch (const PeerError& error) {
      return error.what();
    }
    return "";
  }

  std::unique_ptr<Communicator> communicator_ = make_checked_communicator(
      make_mpi_communicator(test_world()), make_mpi_communicator(test_world()));
  std::array<int64_t, 64> data_{};
};

TEST_F(CheckedCommunicatorTest, LetsEqualCallsPass) {
  data_[0] = communicator_->rank();
  communicator_->barrier();
  communicator_->all_reduce(data_.data(), 1, DType::kI64, ReduceOp::kMax);
  EXPECT_EQ(data_[0], communicator_->size() - 1);
  data_[static_cast<size_t>(communicator_->rank())] = 7;
  communicator_->all_gather(data_.data(), sizeof(int64_t));
  communicator_->broadcast(data_.data(), 64, 0);
  const std::vector<int64_t> lengths(static_cast<size_t>(communicator_->size()), 8);
  int64_t mine = communicator_->rank();
  communicator_->all_gather_variable(&mine, lengths.data(), data_.data());
  EXPECT_EQ(data_[static_cast<size_t>(communicator_->size()) - 1], communicator_->size() - 1);
}

TEST_F(CheckedCommunicatorTest, NamesBothRanksAndBothCalls) {
  const int last = communicator_->size() - 1;
  if (last == 0) GTEST_SKIP() << "one rank always agrees";
  const Action barrier = [](Communicator& ranks) { ranks.barrier(); };
  const auto reduce = [this](int64_t count, DType dtype, ReduceOp op) {
    return [=, this](Communicator& ranks) { ranks.all_reduce(data_.data(), count, dtype, op); };
  };
  const auto broadcast = [this](int64_t bytes, int root) {
    return [=, this](Communicator& ranks) { ranks.broadcast(data_.data(), bytes, root); };
  };
  EXPECT_EQ(complaint(barrier, broadcast(8, 0)),
            concat("the ranks call different collectives: rank 0 collective 1, a barrier; rank ",
                   last, " collective 1, a broadcast of 8 bytes from rank 0"));
  EXPECT_THAT(complaint(broadcast(8, 0), broadcast(16, 0)), HasSubstr("of 16 bytes"));
  EXPECT_THAT(complaint(broadcast(8, 0), broadcast(8, 1)), HasSubstr("from rank 1"));
  EXPECT_THAT(
      complaint(reduce(4, DType::kI64, ReduceOp::kSum), reduce(4, DType::kI64, ReduceOp::kMax)),
      HasSubstr("an all-reduce (maximum) of 4 elements of I64"));
  EXPECT_THAT(
      complaint(reduce(4, DType::kF32, ReduceOp::kMax), reduce(4, DType::kI32, ReduceOp::kMax)),
      HasSubstr("of I32"));
  EXPECT_THAT(
      complaint(reduce(4, DType::kF32, ReduceOp::kMax), reduce(5, DType::kF32, ReduceOp::kMax)),
      HasSubstr("of 5 elements"));
}

}  // namespace
}  // namespace halftone
