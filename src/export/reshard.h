#pragma once

#include <functional>

#include "dist/communicator.h"
#include "export/reshard_plan.h"
#include "io/checkpoint.h"
#include "kernels/thread_pool.h"

namespace halftone {

// Executes plans piece by piece: a task holds a few megabytes of one tensor, whatever its size.
// Files are dealt to ranks, so that no two ranks write one file. All functions are collective
// unless they say otherwise.

// InputError naming two linears whose scales differ although the layout stores one for both. Reads
// nothing but those.
void check_equal_scales(const ReshardPlan& plan, const Checkpoint& unified, Communicator& ranks);

// Writes the plan's files into a folder that exists, and fsyncs them.
void write_sharded(const ReshardPlan& plan, const Checkpoint& unified, const fs::path& folder,
                   Communicator& ranks, ThreadPool& pool);

// Copies the tensors that the plan's files do not hold into one file of their own; nothing where
// there are none. By one rank.
void write_rest(const ReshardPlan& plan, const Checkpoint& unified, const fs::path& file);

// InputError unless the files in `folder` are the plan's, and `rest` holds what they do not. Local.
void check_sharded(const ReshardPlan& plan, const fs::path& folder, const fs::path& rest);

// The way back: fills the tensors of the unified checkpoint's files, which exist in their full size
// and with their headers, and fsyncs them.
void read_sharded(const ReshardPlan& plan, const fs::path& folder, const fs::path& rest,
                  const Checkpoint& unified, Communicator& ranks, ThreadPool& pool);

}  // namespace halftone
