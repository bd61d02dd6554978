#include "core/stop_signal.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <initializer_list>

namespace halftone {
namespace {

// In a process of its own, since the flag is never taken back: 0 when a stop was asked for.
void raise_all(std::initializer_list<int> signals) {
  install_stop_signals();
  if (stop_requested()) std::_Exit(9);
  for (const int signal : signals) std::raise(signal);
  std::_Exit(stop_requested() ? 0 : 1);
}

TEST(StopSignal, NothingCame) {
  EXPECT_EXIT(raise_all({}), testing::ExitedWithCode(1), "");
}

TEST(StopSignal, EachAsksForAStop) {
  for (const int signal : {SIGTERM, SIGUSR1, SIGINT}) {
    EXPECT_EXIT(raise_all({signal}), testing::ExitedWithCode(0), "") << signal;
  }
}

TEST(StopSignal, MoreOfThemDoNotKill) {
  EXPECT_EXIT(raise_all({SIGTERM, SIGTERM, SIGUSR1, SIGUSR1, SIGINT, SIGTERM}),
              testing::ExitedWithCode(0), "");
}

TEST(StopSignal, ASecondInterruptKills) {
  EXPECT_EXIT(raise_all({SIGINT, SIGINT}), testing::KilledBySignal(SIGINT), "");
}

TEST(StopSignal, RestoredSignalsKill) {
  const auto restored = [] {
    install_stop_signals();
    restore_stop_signals();
    std::raise(SIGTERM);
  };
  EXPECT_EXIT(restored(), testing::KilledBySignal(SIGTERM), "");
}

TEST(StopSignal, WithoutTheHandlersSignalsKill) {
  EXPECT_EXIT(std::raise(SIGTERM), testing::KilledBySignal(SIGTERM), "");
}

}  // namespace
}  // namespace halftone
