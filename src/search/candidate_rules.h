#pragma once

#include <string>
#include <vector>

#include "search/search_space.h"

namespace halftone {

// The presets of these names, and the unquantized one behind them ("none" in the list is no
// preset). UsageErrors name what is no candidate.
std::vector<Candidate> make_candidates(const std::vector<std::string>& names);

// The quantizers that a preset gives a linear; those of an output head as of any other linear,
// though presets leave it out (calibration.md, 9.1).
LinearQuantizers quantizers_of(const Recipe& preset, const StageSpec& stage,
                               const LinearSite& linear);

// The module that holds an expert's peers: "model.layers.3.mlp.experts".
std::string experts_module(const LinearSite& expert);

}  // namespace halftone
