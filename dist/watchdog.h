#pragma once

#include <chrono>
#include <memory>

namespace halftone {

class World;

struct WatchdogOptions {
  // A rank that was silent for so long is lost.
  std::chrono::milliseconds limit{60'000};
  // Whether the ranks may exchange messages from a thread of their own (MPI_THREAD_MULTIPLE).
  // Without that only processes of the same host are watched.
  bool messages = true;
  // Whether the ranks of a host watch each other's processes.
  bool processes = true;
};

// Threads that tell the other ranks what this one does, hear the same of them, and end the process
// with exit code 5 and a message when one is lost, whatever its main thread hangs in.
// Reports travel on a communicator of their own, each rank's whole list to the ranks 1, 2, 4, ...
// before and behind it, so that news reaches N ranks in log2(N) steps over N log2(N) connections.
// The ranks of a host also watch each other's processes: the end of one shows at once.
class Watchdog {
 public:
  // Collective. For worlds of two ranks and more.
  Watchdog(const World& world, const WatchdogOptions& options);
  // Ends the process' watch without waiting for the others.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // The end of a run that went well. Returns when all ranks have come, with no message under way.
  // Until then lost ranks are still found.
  void finish();
  // Tells the others that this rank ends the run with `code`, so that they end with it too. Waits
  // a moment for the message to go out, and after a signal for the news of what may be behind it.
  void announce_failure(int code);

 private:
  class Watch;
  std::unique_ptr<Watch> watch_;
};

}  // namespace halftone
