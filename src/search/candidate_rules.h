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

// The recipe that gives every group its candidate, with the rules of a KV cache behind the others.
// UsageError where the algorithms of two formats get into each other's way.
Recipe mixed_recipe(const Model& model, const SearchSpace& space, const std::vector<size_t>& chosen,
                    const std::string& name, const std::string& kv_cache);

}  // namespace halftone
