#pragma once

#include <cstdint>
#include <memory>

#include "dist/communicator.h"

namespace halftone {

// As make_mpi_communicator(world), but no message is longer than `largest_message` bytes: MPI
// counts in ints, so longer ones go in pieces.
std::unique_ptr<Communicator> make_mpi_communicator(const World& world, int64_t largest_message);

// The communicator of a world of one, which needs no MPI.
std::unique_ptr<Communicator> make_lone_communicator();

}  // namespace halftone
