#pragma once

#include <cstdint>

namespace halftone {

// A process of this host: its id, and when it began, since ids are used again.
struct LocalProcess {
  int64_t id = 0;
  uint64_t started = 0;    // clock ticks since the host's start
  uint64_t numbering = 0;  // the PID namespace: ids of another one mean nothing here

  static LocalProcess of_this_one();
  // Whether it has ended, by itself or not. One that is stopped (SIGSTOP) has not.
  bool ended() const;
};

}  // namespace halftone
