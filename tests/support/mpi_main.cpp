// The main of tests that mpirun starts: rank 0 prints as usual, the others only their failures, and
// all ranks fail when one does.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>

#include "dist/communicator.h"
#include "tests/support/mpi_world.h"

namespace halftone {

const World& test_world() {
  static const World world(nullptr, nullptr);
  return world;
}

namespace {

class FailureListener : public testing::EmptyTestEventListener {
 public:
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    if (test_world().rank() > 0) {
      const char* file = result.file_name() == nullptr ? "unknown file" : result.file_name();
      std::fprintf(stderr, "rank %d, %s:%d: %s\n", test_world().rank(), file, result.line_number(),
                   result.message());
    }
    // A test that ended early leaves the other ranks waiting for it.
    if (result.fatally_failed()) {
      std::fflush(nullptr);
      test_world().abort(1);
    }
  }
};

}  // namespace
}  // namespace halftone

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const halftone::World& world = halftone::test_world();
  testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
  if (world.rank() > 0) delete listeners.Release(listeners.default_result_printer());
  listeners.Append(new halftone::FailureListener);

  int32_t failed = RUN_ALL_TESTS();
  halftone::make_mpi_communicator(world)->all_reduce(&failed, 1, halftone::DType::kI32,
                                                     halftone::ReduceOp::kMax);
  return failed;
}
