#include <gtest/gtest.h>

#include "core/error.h"
#include "dist/communicator.h"
#include "tests/support/mpi_world.h"

namespace halftone {
namespace {

TEST(NoNccl, SaysWhatTheBuildLacks) {
  EXPECT_THROW(make_nccl_communicator(test_world()), UsageError);
}

}  // namespace
}  // namespace halftone
