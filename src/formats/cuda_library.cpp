#include "formats/cuda_library.h"

#include <ATen/Context.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <dlfcn.h>

#include "core/error.h"
#include "core/log.h"

namespace halftone {

std::string load_cuda_library() {
#ifdef HALFTONE_HAS_CUDA
  // Kept for the life of the process: LibTorch registers its GPU operations while it is loaded.
  if (::dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    return concat("LibTorch's CUDA part cannot be loaded: ", ::dlerror());
  }
  if (!at::globalContext().hasCUDA()) return "no usable GPU was found";
  at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
  return {};
#else
  return "this build has no CUDA (configure with -DHALFTONE_CUDA=ON)";
#endif
}

int use_gpu(int local_rank) {
  const auto* gpus = c10::impl::getDeviceGuardImpl(c10::DeviceType::CUDA);
  const int count = gpus->deviceCount();
  if (count < 1) throw ResourceError("no GPU was found");
  const int index = local_rank % count;
  gpus->setDevice({c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index)});
  return index;
}

}  // namespace halftone
