// Two ranks, of which the second throws while the first waits for it.
#include <cstdio>
#include <cstdlib>

#include "core/error.h"
#include "dist/communicator.h"
#include "dist/world.h"

int main(int argc, char** argv) {
  const halftone::World world(&argc, &argv);
  try {
    const auto communicator = halftone::make_mpi_communicator(world);
    if (world.rank() == 1) {
      throw halftone::Error(static_cast<halftone::ExitCode>(std::atoi(argv[1])), "as told");
    }
    communicator->barrier();
  } catch (const halftone::Error& error) {
    std::fprintf(stderr, "rank %d: %s\n", world.rank(), error.what());
    world.abort(static_cast<int>(error.code()));
  }
  return 0;
}
