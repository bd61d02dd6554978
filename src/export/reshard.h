#pragma once

#include "dist/byte_plan.h"
#include "dist/communicator.h"
#include "export/reshard_plan.h"
#include "io/checkpoint.h"

namespace halftone {

// Plans of tensors as plans of bytes, both ways, and what must hold before they are carried out.

// InputError naming two linears whose scales differ although the layout stores one for both. Reads
// nothing but those. Collective.
void check_equal_scales(const ReshardPlan& plan, const Checkpoint& unified, Communicator& ranks);

// Adds the plan's files to `bytes`, their names below `prefix`, and one of the tensors that they do
// not hold, called `rest`; none where there are none.
void add_sharded(const ReshardPlan& plan, const Checkpoint& unified, const std::string& prefix,
                 const std::string& rest, BytePlan& bytes);

// The way back: the weight files of the unified checkpoint of which `unified` has the headers, made
// of what check_rank_headers() has nothing against.
BytePlan plan_unified(const ReshardPlan& plan, const fs::path& folder, const fs::path& rest,
                      const Checkpoint& unified);

}  // namespace halftone
