#pragma once

#include "app/options.h"
#include "engine/cluster.h"
#include "engine/quantize.h"
#include "export/library_target.h"

namespace halftone {

// --target compressed-tensors, autoawq and gptq of quantize and export: a unified checkpoint is
// assembled beside the output, written again as that library has it, and removed.

// Null: --target is something else.
const LibraryTarget* wanted_library(const Options& options);

// Whether an earlier run of this command has published `out` already, made of this result.
bool is_in_library_layout(const Options& options, const fs::path& out,
                          const QuantizeResult& result);
// Nothing without such a target. Otherwise makes and publishes `out`, removes what it was made of
// and says in `result` what is there now. Collective.
void write_library_outputs(const Options& options, const fs::path& out, const Cluster& cluster,
                           QuantizeResult& result);

// halftone export without a store: from a unified checkpoint that halftone wrote. Collective.
void export_to_library(const Options& options, const World& world);

}  // namespace halftone
