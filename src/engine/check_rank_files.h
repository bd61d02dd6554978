#pragma once

#include "engine/cluster.h"
#include "export/finding.h"
#include "export/reshard_plan.h"

namespace halftone {

// Everything that can be said of the numbers in rank files without the unified form: scales finite
// and more than 0, no NaN among weights, tensors that every tensor-parallel rank holds equal, and,
// where `sums` has a file's SHA-256, that it is still the file that was written. Every file is read
// by one rank. The same on every rank. Collective.
Findings check_rank_values(const ReshardPlan& plan, const fs::path& folder,
                           const std::map<std::string, std::string>& sums, const Cluster& cluster);

}  // namespace halftone
