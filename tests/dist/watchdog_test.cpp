#include "dist/watchdog.h"

#include <gtest/gtest.h>

#include <thread>

#include "dist/communicator.h"
#include "tests/support/mpi_world.h"

namespace halftone {
namespace {

using namespace std::chrono_literals;

// What ends a run is tested with the whole program (tests/app/test_watchdog.py); here is what must
// not.
class WatchdogTest : public testing::Test {
 protected:
  void SetUp() override {
    if (test_world().size() == 1) GTEST_SKIP() << "a rank alone has nobody to watch";
  }

  std::unique_ptr<Communicator> ranks_ = make_mpi_communicator(test_world());
};

TEST_F(WatchdogTest, EndsWithTheRun) {
  for (int i = 0; i < 3; ++i) {
    Watchdog watchdog(test_world(), {.limit = 10s});
    ranks_->barrier();
    watchdog.finish();
  }
  // No message of theirs is left for others to find.
  int32_t one = 1;
  ranks_->all_reduce(&one, 1, DType::kI32, ReduceOp::kSum);
  EXPECT_EQ(one, test_world().size());
}

TEST_F(WatchdogTest, LeavesABusyRankAlone) {
  Watchdog watchdog(test_world(), {.limit = 2s});
  test_world().activity().begin_step("long solve");
  if (test_world().rank() == 0) std::this_thread::sleep_for(3500ms);
  ranks_->barrier();
  watchdog.finish();
}

TEST_F(WatchdogTest, WaitsAtTheEndForTheLastRank) {
  Watchdog watchdog(test_world(), {.limit = 2s});
  if (test_world().rank() == test_world().size() - 1) std::this_thread::sleep_for(3000ms);
  watchdog.finish();
}

TEST_F(WatchdogTest, DoesWithoutMessages) {
  Watchdog watchdog(test_world(), {.limit = 2s, .messages = false});
  ranks_->barrier();
  watchdog.finish();
  ranks_->barrier();
}

}  // namespace
}  // namespace halftone
