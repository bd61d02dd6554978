#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "dist/communicator.h"
#include "tests/support/mpi_world.h"

namespace halftone {
namespace {

TEST(NoGpu, IsAResourceError) {
  int gpus = 0;
  if (cudaGetDeviceCount(&gpus) == cudaSuccess && gpus > 0) GTEST_SKIP() << gpus << " GPUs here";
  EXPECT_THROW(make_nccl_communicator(test_world()), ResourceError);
}

}  // namespace
}  // namespace halftone
