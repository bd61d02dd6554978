#pragma once

#include "search/solver.h"

namespace halftone {

// A step from one choice of a group to a costlier one of its lower convex hull.
struct HullStep {
  size_t group = 0;
  size_t from = 0, to = 0;  // choices
  int64_t cost = 0;         // more than 0
  double gain = 0;          // by how much the score falls, more than 0
};

// The choice of each group with which its steps begin: the cheapest, of those the best.
std::vector<size_t> cheapest_choices(const std::vector<ChoiceGroup>& groups);

// Steps of all groups, most gain per cost first: taken in this order from the cheapest choices on,
// each group's steps come in turn. Ties are broken by group, then by cost.
std::vector<HullStep> hull_steps(const std::vector<ChoiceGroup>& groups);

}  // namespace halftone
