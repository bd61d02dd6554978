#pragma once

#include <cstdint>

namespace halftone {

// The largest resident set of this process so far, in bytes.
int64_t peak_host_bytes();
// What is resident of this process now.
int64_t host_bytes_now();
// What the system says can be taken without swapping; 0 where it does not say.
int64_t available_host_bytes();
// Hands freed pages back to the system: a stage's buffers would otherwise stay with the allocator.
void release_free_memory();

}  // namespace halftone
