#include "engine/out_of_memory.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/Exception.h>

#include <new>
#include <string_view>

#include "core/memory.h"

namespace halftone {

namespace {

// oneDNN cannot place the code that it generates, or its scratch memory: a runtime error of its
// own, that tells this from other failures by nothing but what failed.
bool is_of_onednn(const std::exception& error) {
  const std::string_view text = error.what();
  return text.starts_with("could not create a primitive") ||
         text.starts_with("could not create a memory");
}

}  // namespace

bool is_out_of_memory(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return true;
  if (is_of_onednn(error)) return true;
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr) return true;
  const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
  // The allocator of the host has no type of its own for this.
  return of_torch != nullptr &&
         std::string_view(of_torch->what_without_backtrace()).find("DefaultCPUAllocator") !=
             std::string_view::npos;
}

void release_free_memory(at::Device device) {
  release_free_memory();
  if (device.is_cuda()) c10::getDeviceAllocator(device.type())->emptyCache();
}

}  // namespace halftone
