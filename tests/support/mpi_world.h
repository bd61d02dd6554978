#pragma once

#include "dist/world.h"

namespace halftone {

// The world that tests/support/mpi_main.cpp started.
const World& test_world();

}  // namespace halftone
