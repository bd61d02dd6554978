#pragma once

#include <vector>

#include "core/files.h"
#include "engine/quantize.h"
#include "search/decision.h"

namespace halftone {

// OUT.frontier.json and OUT.frontier.svg, beside the output. `report`: search_json() and the
// method.
void write_frontier(const fs::path& out, const Json& report);
// What was decided, one line each.
void log_decisions(const SearchSpace& space, const std::vector<Decision>& decisions);
// The table of the outputs.
void print_decisions(const std::vector<Decision>& decisions, const QuantizeResult& result);

}  // namespace halftone
