#include "dist/mpi_error.h"

#include <mpi.h>

#include <array>

#include "core/error.h"
#include "core/log.h"

namespace halftone {

void require_mpi(int status, const char* operation, int rank, const std::string& host) {
  if (status == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  const bool known = MPI_Error_string(status, text.data(), &length) == MPI_SUCCESS;
  const std::string reason =
      known ? std::string(text.data(), static_cast<size_t>(length)) : concat("error ", status);
  throw PeerError(concat(operation, " failed on rank ", rank, " (host ", host, "): ", reason));
}

}  // namespace halftone
