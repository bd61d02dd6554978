#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "core/files.h"
#include "dist/communicator.h"

namespace halftone {

class World;

// Checks before the work begins. All are collective over a host communicator, throw on every rank
// alike and do nothing in a world of one.

// What must be the same everywhere, in the order of the checks.
using Facts = std::vector<std::pair<std::string, std::string>>;
// The program's SHA-256 and the version of MPI; the caller adds its own libraries.
Facts program_facts();
// UsageError with the first fact that differs, the first rank and host where it does, and both
// values.
void require_same_facts(Communicator& ranks, const World& world, const Facts& facts);

// Warns, by rank 0, of hosts whose clocks differ by more than a few seconds from rank 0's.
void warn_of_clocks(Communicator& ranks, const World& world);

// Which host a rank stands for, and what the hosts are called.
struct HostSeat {
  int node = 0;
  bool first = true;  // the rank that acts for its host
  std::vector<std::string> hosts;
};
// Collective over all ranks.
HostSeat seat_of(const World& world, Communicator& ranks);

// ResourceError unless every host sees at once what another one writes to this folder: new files,
// and files that were renamed over old ones, whole. Waits `patience` for the caches of a network
// file system. `option` is what to change. Leaves nothing behind. Costs nothing on one host.
void check_shared_folder(const fs::path& folder, const HostSeat& seat, Communicator& ranks,
                         const std::string& option,
                         std::chrono::milliseconds patience = std::chrono::seconds(10));

}  // namespace halftone
