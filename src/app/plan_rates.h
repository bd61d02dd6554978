#pragma once

#include "app/options.h"
#include "dist/communicator.h"
#include "engine/plan.h"
#include "io/checkpoint.h"

namespace halftone {

// --measure, --read-bandwidth, --write-bandwidth, --network-bandwidth, --flops
void add_rate_options(Options& options);

// What is stated, else with --measure what this process reaches: it reads a slice of the
// checkpoint, writes a file into `folder` and removes it, gathers among the ranks of this world,
// multiplies matrices with all threads. Else usual figures of the kind of device. Collective.
Rates rates_of(const Options& options, const Checkpoint& checkpoint, const fs::path& folder,
               DType compute_dtype, bool gpu, int threads, Communicator& ranks);

}  // namespace halftone
