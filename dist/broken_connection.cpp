#include "dist/broken_connection.h"

#include <atomic>
#include <cstdint>
#include <cstdlib>

#include "core/log.h"

namespace halftone {
namespace {

// A plain function reaches nothing but globals.
std::atomic<bool> guarded = false;
std::atomic<bool> broken = false;

}  // namespace

void guard_connections(bool on) {
  guarded.store(on);
}

bool connection_broken() {
  return broken.load();
}

}  // namespace halftone

// The handler that Open MPI's point-to-point layer (ob1) gives its transports. No public header
// declares it; the dynamic linker finds the program's definition first, which is why the program
// exports it (CMakeLists.txt).
extern "C" __attribute__((visibility("default"))) void mca_pml_ob1_error_handler(
    void* /*transport*/, int32_t /*flags*/, void* /*peer*/, char* reason) {
  constexpr int kPeerLost = 5;
  halftone::broken.store(true);
  if (halftone::guarded.load()) return;
  halftone::log_error("MPI lost the connection to another rank: ",
                      reason == nullptr ? "it gives no reason" : reason);
  std::_Exit(kPeerLost);
}
