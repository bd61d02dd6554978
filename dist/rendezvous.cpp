#include "dist/rendezvous.h"

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <optional>
#include <thread>

#include "dist/mpi_error.h"
#include "dist/world.h"
#include "kernels/check.h"

namespace halftone {

struct Rendezvous::State {
  const World& world;
  MPI_Comm handle = MPI_COMM_NULL;
  bool waiting = false;  // in a meeting, for ever if it was given up

  void require(int status) const { require_mpi(status, "meeting", world.rank(), world.host()); }
};

Rendezvous::Rendezvous(const World& world) : state_(std::make_unique<State>(State{world})) {
  check(world.threads_talk(), "a rendezvous is for threads that talk side by side");
  state_->require(MPI_Comm_dup(MPI_COMM_WORLD, &state_->handle));
  MPI_Comm_set_errhandler(state_->handle, MPI_ERRORS_RETURN);
}

// A rank that unwinds must not wait for its peers, as freeing may do.
Rendezvous::~Rendezvous() {
  if (std::uncaught_exceptions() == 0 && !state_->waiting) MPI_Comm_free(&state_->handle);
}

bool Rendezvous::meet(const std::atomic<bool>& given_up) {
  using namespace std::chrono_literals;
  MPI_Request request = MPI_REQUEST_NULL;
  state_->waiting = true;
  state_->require(MPI_Ibarrier(state_->handle, &request));
  // Ranks mostly come together; one that waits for long looks less often.
  auto pause = std::chrono::microseconds(20);
  std::optional<std::chrono::steady_clock::time_point> last_moment;
  while (true) {
    int all_here = 0;
    state_->require(MPI_Test(&request, &all_here, MPI_STATUS_IGNORE));
    if (all_here != 0) {
      state_->waiting = false;
      return true;
    }
    const auto now = std::chrono::steady_clock::now();
    if (!last_moment && given_up.load()) last_moment = now + 1s;
    if (last_moment && now > *last_moment) return false;
    std::this_thread::sleep_for(pause);
    pause = std::min<std::chrono::microseconds>(2 * pause, 1ms);
  }
}

}  // namespace halftone
