#pragma once

#include "engine/cluster.h"
#include "model/model.h"

namespace halftone {

// summary.json's "stages": the seconds of each stage by activity, of the rank that spent most; and
// "exposed_io": the share of the run for which the computation waited for reads or writes. Null
// without a trace. Collective.
Json stage_times(const Model& model, const Cluster& cluster);

// All ranks' spans as one file for chrome://tracing, written by rank 0. Collective.
void write_trace(const fs::path& path, const Model& model, const Cluster& cluster);

}  // namespace halftone
