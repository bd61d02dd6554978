#include "engine/device_memory.h"

#include <c10/core/CachingDeviceAllocator.h>

namespace halftone {

int64_t peak_device_bytes(at::Device device) {
  if (!device.is_cuda()) return 0;
  // Statistic 0 is the aggregate over all pools.
  return c10::getDeviceAllocator(device.type())
      ->getDeviceStats(device.index())
      .reserved_bytes[0]
      .peak;
}

int64_t available_device_bytes(at::Device device) {
  if (!device.is_cuda()) return 0;
  const auto [free, total] = c10::getDeviceAllocator(device.type())->getMemoryInfo(device.index());
  return static_cast<int64_t>(free);
}

}  // namespace halftone
