#include "core/stop_signal.h"

#include <atomic>
#include <csignal>
#include <initializer_list>

#include "kernels/check.h"

namespace halftone {
namespace {

// A handler reaches nothing but globals.
std::atomic<bool> requested = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a handler may not take a lock");

constexpr std::initializer_list<int> kSignals = {SIGTERM, SIGUSR1, SIGINT};

extern "C" void note_stop(int /*signal*/) {
  requested.store(true);
}

}  // namespace

void install_stop_signals() {
  for (const int signal : kSignals) {
    struct sigaction action {};
    action.sa_handler = note_stop;
    sigemptyset(&action.sa_mask);
    // Reads and writes under way go on; who presses Ctrl-C twice does not want to wait.
    action.sa_flags = SA_RESTART | (signal == SIGINT ? static_cast<int>(SA_RESETHAND) : 0);
    check(sigaction(signal, &action, nullptr) == 0, "a handler can be set for this signal");
  }
}

void restore_stop_signals() {
  for (const int signal : kSignals) std::signal(signal, SIG_DFL);
}

bool stop_requested() {
  return requested.load();
}

}  // namespace halftone
