#pragma once

#include <cstdint>
#include <optional>

namespace halftone {

// A process of this host: its id, and when it began, since ids are used again.
struct LocalProcess {
  int64_t id = 0;
  uint64_t started = 0;    // clock ticks since the host's start
  uint64_t numbering = 0;  // the PID namespace: ids of another one mean nothing here

  static LocalProcess of_this_one();
  // What started this rank: mpirun, its daemon on this host, Slurm's step daemon. Not the scripts
  // that only pass a rank on. None where nothing started it, or what did lives in another
  // container.
  static std::optional<LocalProcess> launcher();
  // Whether it has ended, by itself or not. One that is stopped (SIGSTOP) has not.
  bool ended() const;
  bool operator==(const LocalProcess&) const = default;
};

}  // namespace halftone
