#pragma once

#include "search/solver.h"

namespace halftone {

// Assignments that no other beats for any price of a unit of cost, from the cheapest one to the one
// of least score: the convex part of the Pareto frontier. Each is the optimum of its own cost.
std::vector<Assignment> pareto_frontier(const std::vector<ChoiceGroup>& groups);

}  // namespace halftone
