#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace halftone {

// One way to store a group of linears: what it takes from the budget (any unit, not negative) and
// the loss that it is predicted to add (finite).
struct Choice {
  int64_t cost = 0;
  double score = 0;
};

// Linears that share one decision, with at least one choice.
struct ChoiceGroup {
  std::string name;
  std::vector<Choice> choices;
};

// One choice for each group, in the groups' order.
struct Assignment {
  std::vector<size_t> chosen;
  int64_t cost = 0;
  double score = 0;  // the sum over groups, in their order
  double bound = 0;  // no assignment within the budget scores less: `score` itself when proved best
};

struct CostRange {
  int64_t least = 0;
  int64_t most = 0;
};
CostRange cost_range(const std::vector<ChoiceGroup>& groups);

// The assignment of least score among those that cost at most `budget`; nothing when even the
// cheapest does not fit. Deterministic, the cheaper one among equals of the search's order.
//
// A multiple-choice knapsack, solved exactly: the linear relaxation gives a multiplier and a first
// assignment (Sinha and Zoltners 1979), reduced costs remove choices that cannot improve it, and
// dynamic programming with dominance goes through the rest (Pisinger 1995). A state is dropped
// only above kMaxStates, and `bound` then says what that may have lost.
// Rejected: a general solver (CBC's absolute tolerance gives up on scores of 1e-6), a table over
// the budget (costs are numbers of bits, up to 1e13), thresholds on single groups' scores (they
// minimize the worst group, not the sum).
std::optional<Assignment> solve(const std::vector<ChoiceGroup>& groups, int64_t budget);

}  // namespace halftone
