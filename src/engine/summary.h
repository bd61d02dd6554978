#pragma once

#include "engine/quantize.h"

namespace halftone {

// summary.json of one output: per-linear records, accounting of the source's tensors, phases, peak
// memory, the resolved configuration, the digest.
Json make_summary(const Target& target, const QuantizeResult& result, size_t index,
                  const LinearRecords& records, const Json& resolved);

// The same figures as `--json` prints them.
Json to_json(const QuantizeResult& result);
// Back from to_json(). Throws InputError naming `source`.
QuantizeResult quantize_result_of(const Json& json, const std::string& source);

}  // namespace halftone
