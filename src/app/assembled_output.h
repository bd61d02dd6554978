#pragma once

#include "core/json.h"
#include "dist/communicator.h"
#include "engine/quantize.h"

namespace halftone {

// Layouts other than Hugging Face's: quantize() assembles a unified checkpoint in `assembly`,
// beside the output; it is written again in the layout, published as `out`, and removed. `layout`
// says in the summary which one it is; the digest of what it was made of comes behind it.

// The place in `out` of an output that was assembled.
fs::path published_folder(const fs::path& assembly, const fs::path& out,
                          const QuantizeResult::Output& output);
// Whether `out` is there already, made of this result.
bool is_made_of(const fs::path& assembly, const fs::path& out, const Json& layout,
                const QuantizeResult& result);
// Says in `result` what is there; rank 0's is what is printed.
void describe_published(const fs::path& assembly, const fs::path& out, QuantizeResult& result);
// The summary of the assembled checkpoint, with what `output` is now, into its folder before that
// is published.
void write_layout_summary(const fs::path& unified, const std::string& unified_digest,
                          const Json& layout, const QuantizeResult::Output& output,
                          const fs::path& folder);
// By rank 0. What cannot be removed is only warned of.
void discard_folder(const fs::path& folder, const Communicator& ranks);

}  // namespace halftone
