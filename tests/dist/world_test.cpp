#include "dist/world.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "tests/support/mpi_world.h"

namespace halftone {
namespace {

// Tests run on one host, so its numbering is known.
TEST(World, KnowsWhoSitsWhere) {
  const World& world = test_world();
  const char* launched = std::getenv("OMPI_COMM_WORLD_SIZE");
  EXPECT_EQ(world.size(), launched == nullptr ? 1 : std::stoi(launched));
  EXPECT_GE(world.rank(), 0);
  EXPECT_LT(world.rank(), world.size());
  EXPECT_EQ(world.local_rank(), world.rank());
  EXPECT_EQ(world.local_size(), world.size());
  EXPECT_EQ(world.nodes(), 1);
  EXPECT_EQ(world.node(), 0);
  EXPECT_EQ(world.node_of(), std::vector<int>(static_cast<size_t>(world.size()), 0));
  EXPECT_FALSE(world.host().empty());
}

TEST(World, OfOneGoesOnAfterAbort) {
  if (test_world().size() == 1) test_world().abort(5);
}

}  // namespace
}  // namespace halftone
