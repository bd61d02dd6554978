#pragma once

#include "app/options.h"
#include "engine/cluster.h"
#include "engine/quantize.h"
#include "export/trtllm_form.h"

namespace halftone {

// --target trtllm of quantize and export: a unified Hugging Face checkpoint is assembled beside the
// output, dealt to the inference ranks' files, and removed.

// --target, --tp, --pp
void add_layout_options(Options& options);
bool wants_trtllm(const Options& options);
// --tp and --pp, which need --target trtllm.
Parallelism parallelism(const Options& options);

// Gives the recipes what the layout needs.
void adapt_recipes(const Options& options, std::vector<Recipe>& recipes);
// Refuses what the layout cannot carry, from the plan alone. The bytes of the files that
// quantize()'s output is dealt to, beside which it lies until then: 0 without --target trtllm.
int64_t check_layout(const Options& options, const Checkpoint& source, const Model& model,
                     const std::vector<Target>& targets);

// Where quantize() puts its output: `out`, or the folder that it is resharded from.
fs::path assembly_folder(const Options& options, const fs::path& out);
// Whether an earlier run of this command has published `out` already, made of this result.
bool is_resharded(const Options& options, const fs::path& out, const QuantizeResult& result);
// Nothing without --target trtllm. Otherwise makes and publishes `out`, removes what it was made of
// and says in `result` what is there now. Collective.
void reshard_outputs(const Options& options, const fs::path& out, const Cluster& cluster,
                     QuantizeResult& result);

}  // namespace halftone
