#include "core/memory.h"

#include <malloc.h>
#include <sys/resource.h>

namespace halftone {

int64_t peak_host_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

void release_free_memory() {
  malloc_trim(0);
}

}  // namespace halftone
