#include "dist/preflight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/log.h"
#include "dist/agreement.h"
#include "tests/core/temporary_folder.h"
#include "tests/support/mpi_world.h"

namespace halftone {
namespace {

using testing::HasSubstr;

class PreflightTest : public testing::Test {
 protected:
  // Each rank as a host of its own.
  HostSeat own_seat() const {
    HostSeat seat{test_world().rank(), true, {}};
    for (int r = 0; r < test_world().size(); ++r) seat.hosts.push_back(concat("host", r));
    return seat;
  }

  std::unique_ptr<Communicator> ranks_ = make_mpi_communicator(test_world());
};

TEST_F(PreflightTest, TheSameProgramIsTheSame) {
  require_same_facts(*ranks_, test_world(), program_facts());
  warn_of_clocks(*ranks_, test_world());
}

TEST_F(PreflightTest, NamesRankHostAndBothValues) {
  const int last = test_world().size() - 1;
  if (last == 0) GTEST_SKIP() << "one rank always agrees";
  const Facts facts = {{"MPI", "4"}, {"HDF5", test_world().rank() == last ? "1.12" : "1.10"}};
  try {
    require_same_facts(*ranks_, test_world(), facts);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const UsageError& error) {
    const std::string& host = test_world().host();
    EXPECT_EQ(error.what(), concat("all ranks need the same HDF5, but rank 0 on host ", host,
                                   " has '1.10' and rank ", last, " on host ", host,
                                   " has '1.12': install the same halftone on all hosts"));
  }
}

TEST_F(PreflightTest, SharedFolderPassesAndIsLeftClean) {
  const TemporaryFolder mine;
  const fs::path folder = broadcast_text(*ranks_, mine.path().string(), 0);
  check_shared_folder(folder, own_seat(), *ranks_, "--workspace");
  ranks_->barrier();
  EXPECT_TRUE(fs::is_empty(folder));
  check_shared_folder(folder, seat_of(test_world(), *ranks_), *ranks_, "--workspace");
  ranks_->barrier();
}

TEST_F(PreflightTest, FoldersOfTheirOwnAreRefused) {
  if (test_world().size() == 1) GTEST_SKIP() << "one host shares with nobody";
  const TemporaryFolder mine;
  try {
    check_shared_folder(mine.path(), own_seat(), *ranks_, "--workspace",
                        std::chrono::milliseconds(200));
    ADD_FAILURE() << "nothing was thrown";
  } catch (const ResourceError& error) {
    EXPECT_THAT(error.what(), HasSubstr("host host0 does not see what host host1 wrote"));
    EXPECT_THAT(error.what(), HasSubstr("choose another --workspace"));
  }
  EXPECT_TRUE(fs::is_empty(mine.path()));
}

TEST_F(PreflightTest, AFolderThatCannotBeWrittenIsRefused) {
  if (test_world().size() == 1) GTEST_SKIP() << "one host shares with nobody";
  EXPECT_THROW(check_shared_folder("/proc/halftone", own_seat(), *ranks_, "--workspace"),
               ResourceError);
}

}  // namespace
}  // namespace halftone
