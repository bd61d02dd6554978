#include "dist/local_process.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

namespace halftone {
namespace {

TEST(LocalProcess, SeesWhetherAProcessHasEnded) {
  LocalProcess mine = LocalProcess::of_this_one();
  EXPECT_FALSE(mine.ended());
  LocalProcess again = mine;  // another process with the same id
  again.started += 1;
  EXPECT_TRUE(again.ended());

  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    while (true) ::pause();
  }
  // When it began is what a process knows of itself, so only its end is looked at.
  LocalProcess other = mine;
  other.id = child;
  ::kill(child, SIGKILL);
  siginfo_t info{};
  ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
  EXPECT_TRUE(other.ended()) << "nobody has waited for it yet";
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(other.ended());
}

TEST(LocalProcess, KnowsWhatStartedThisRank) {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    ::unsetenv(name);
  }
  EXPECT_FALSE(LocalProcess::launcher().has_value());
  ::setenv("PMIX_RANK", "3", 1);
  std::optional<LocalProcess> launcher = LocalProcess::launcher();
  ASSERT_TRUE(launcher.has_value());
  EXPECT_EQ(launcher->id, ::getppid());
  EXPECT_FALSE(launcher->ended());
}

}  // namespace
}  // namespace halftone
