#include "dist/broken_connection.h"

#include <atomic>
#include <cstdint>

namespace halftone {
namespace {

// A plain function reaches nothing but globals.
std::atomic<bool> broken = false;

}  // namespace

bool connection_broken() {
  return broken.load();
}

}  // namespace halftone

// The handler that Open MPI's point-to-point layer (ob1) gives its transports. No public header
// declares it; the dynamic linker finds the program's definition first, which is why the program
// exports it (CMakeLists.txt).
extern "C" __attribute__((visibility("default"))) void mca_pml_ob1_error_handler(
    void* /*transport*/, int32_t /*flags*/, void* /*peer*/, char* /*reason*/) {
  halftone::broken.store(true);
}
