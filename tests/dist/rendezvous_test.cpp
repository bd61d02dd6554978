#include "dist/rendezvous.h"

#include <gtest/gtest.h>

#include <thread>

#include "dist/communicator.h"
#include "tests/support/mpi_world.h"

namespace halftone {
namespace {

TEST(Rendezvous, AllRanksMeetBesideOtherWork) {
  if (test_world().size() == 1) GTEST_SKIP() << "one rank";
  const auto ranks = make_mpi_communicator(test_world());
  Rendezvous meeting(test_world());
  std::atomic<bool> given_up{false};
  int met = 0;
  std::thread beside([&] {
    for (int i = 0; i < 50; ++i) met += meeting.meet(given_up) ? 1 : 0;
  });
  for (int i = 0; i < 50; ++i) ranks->barrier();
  beside.join();
  EXPECT_EQ(met, 50);
}

TEST(Rendezvous, ThoseWhoComeAndGiveUpTogetherMeet) {
  if (test_world().size() == 1) GTEST_SKIP() << "one rank";
  Rendezvous meeting(test_world());
  const std::atomic<bool> given_up{true};
  EXPECT_TRUE(meeting.meet(given_up));
}

TEST(Rendezvous, ARankThatGivesUpLeaves) {
  if (test_world().size() == 1) GTEST_SKIP() << "one rank";
  const auto ranks = make_mpi_communicator(test_world());
  Rendezvous meeting(test_world());
  const std::atomic<bool> given_up{true};
  // The last rank does not come.
  const bool comes = test_world().rank() + 1 < test_world().size();
  if (comes) {
    EXPECT_FALSE(meeting.meet(given_up));
  }
  ranks->barrier();
}

}  // namespace
}  // namespace halftone
