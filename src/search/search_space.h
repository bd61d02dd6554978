#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/recipe.h"
#include "model/model.h"
#include "search/solver.h"

namespace halftone {

// One way to store linears: a preset, or, as the last of all, leaving them as they are.
struct Candidate {
  std::string name;              // the preset's short name; "none"
  std::optional<Recipe> recipe;  // without a KV cache; nothing: unquantized
  double bits = 16.0;            // of a weight, as Model Optimizer counts (calibration.md, 9.1)
};

// Linears of one stage that share a decision (calibration.md, 9.2): those that engines merge, and
// all experts of a layer; any other linear is alone.
struct LinearGroup {
  std::string name;
  size_t stage = 0;
  std::vector<size_t> linears;  // of the stage
  bool experts = false;
  std::vector<size_t> candidates;  // that it may get: positions in the space's list, ascending
  int64_t weights = 0;
  double cost_weight = 1.0;  // of each weight in the budget

  bool is_searched() const { return candidates.size() > 1; }
};

// Only these formats for linears whose name fits the pattern; "none" may be among them.
struct Restriction {
  std::string pattern;
  std::vector<std::string> formats;
};

enum class CostModel { kWeight, kActiveMoe };

struct SearchOptions {
  std::vector<std::string> formats;   // presets, and "none"
  std::vector<std::string> disabled;  // patterns: a group with such a linear stays as it is
  std::vector<Restriction> restrictions;
  std::vector<std::string> uncounted;  // patterns: linears that the budget ignores
  CostModel cost = CostModel::kWeight;
  // Of a layer's experts, those that a token meets (kActiveMoe); 0: as the model routes.
  double active_ratio = 0.0;
};

struct SearchSpace {
  // In ascending bits; the unquantized one is last, whether or not groups may choose it.
  std::vector<Candidate> candidates;
  std::vector<LinearGroup> groups;  // of every linear, in module order
  double counted = 0.0;             // weights times cost_weight: what bits are the mean over

  size_t none() const { return candidates.size() - 1; }
};

// UsageErrors name a format that is no candidate or that no linear of the model can have, and a
// pattern that fits nothing or cuts through a group.
SearchSpace make_search_space(const Model& model, const SearchOptions& options);

// The space as the solver knows it. `scores[g][i]`: of the i-th candidate of group g.
std::vector<ChoiceGroup> choice_groups(const SearchSpace& space,
                                       const std::vector<std::vector<double>>& scores);
// The solver's cost of so many mean bits a weight, and back.
int64_t budget_of(const SearchSpace& space, double bits);
double bits_of(const SearchSpace& space, int64_t cost);
// The candidates that an assignment chose, as positions in the space's list.
std::vector<size_t> candidates_of(const SearchSpace& space, const std::vector<size_t>& chosen);
// Every group that may has this candidate, the others stay as they are.
std::vector<size_t> everywhere(const SearchSpace& space, size_t candidate);

// The least bits of an element among the enabled quantizers; 4.5 for NVFP4 in dynamic blocks.
double effective_bits(const LinearQuantizers& quantizers);

}  // namespace halftone
