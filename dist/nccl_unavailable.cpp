#include "core/error.h"
#include "dist/communicator.h"

namespace halftone {

std::unique_ptr<Communicator> make_nccl_communicator(const World&, GpuOrder) {
  throw UsageError(
      "this build has no NCCL, so it cannot run on GPUs: build with -DHALFTONE_CUDA=ON where "
      "nccl.h "
      "is installed, or run with --device cpu");
}

std::string nccl_version() {
  return "none";
}

}  // namespace halftone
