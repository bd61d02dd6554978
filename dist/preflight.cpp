#include "dist/preflight.h"

#include <mpi.h>

#include <array>
#include <chrono>
#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "core/sha256.h"
#include "dist/agreement.h"
#include "dist/world.h"

namespace halftone {
namespace {

constexpr double kClockTolerance = 5.0;

std::string mpi_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);
  return {text.data(), static_cast<size_t>(length)};
}

double seconds_of_clock() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

}  // namespace

Facts program_facts() {
  return {{"program (SHA-256)", sha256_of_file("/proc/self/exe")}, {"MPI", mpi_version()}};
}

void require_same_facts(Communicator& ranks, const World& world, const Facts& facts) {
  if (world.size() == 1) return;
  const std::vector<std::string> hosts = gather_texts(ranks, world.host());
  for (const auto& [what, value] : facts) {
    const std::vector<std::string> values = gather_texts(ranks, value);
    for (size_t r = 1; r < values.size(); ++r) {
      if (values[r] == values[0]) continue;
      throw UsageError(concat("all ranks need the same ", what, ", but rank 0 on host ", hosts[0],
                              " has '", values[0], "' and rank ", r, " on host ", hosts[r],
                              " has '", values[r], "': install the same halftone on all hosts"));
    }
  }
}

void warn_of_clocks(Communicator& ranks, const World& world) {
  if (world.nodes() == 1) return;
  const std::vector<std::string> hosts = gather_texts(ranks, world.host());
  std::vector<double> clocks(hosts.size());
  ranks.barrier();
  clocks[static_cast<size_t>(world.rank())] = seconds_of_clock();
  ranks.all_gather(clocks.data(), sizeof(double));
  if (world.rank() > 0) return;
  for (size_t r = 1; r < clocks.size(); ++r) {
    const double ahead = clocks[r] - clocks[0];
    if (std::abs(ahead) < kClockTolerance || hosts[r] == hosts[r - 1]) continue;
    log_warn("the clock of host ", hosts[r], " is ", std::abs(ahead), " s ",
             ahead > 0 ? "ahead of" : "behind", " that of host ", hosts[0],
             ": logs will not fit together");
  }
}

}  // namespace halftone
