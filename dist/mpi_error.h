#pragma once

#include <string>

namespace halftone {

// Throws PeerError with MPI's words, the rank, the host and the operation unless `status` is
// success.
void require_mpi(int status, const char* operation, int rank, const std::string& host);

}  // namespace halftone
