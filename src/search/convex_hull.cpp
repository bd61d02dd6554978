#include "search/convex_hull.h"

#include <algorithm>
#include <numeric>

namespace halftone {
namespace {

bool cheaper(const Choice& a, const Choice& b) {
  return a.cost != b.cost ? a.cost < b.cost : a.score < b.score;
}

HullStep step_between(const ChoiceGroup& group, size_t index, size_t from, size_t to) {
  const Choice& before = group.choices[from];
  const Choice& after = group.choices[to];
  return {index, from, to, after.cost - before.cost, before.score - after.score};
}

double rate(const HullStep& step) {
  return step.gain / static_cast<double>(step.cost);
}

// Choices on the lower convex hull, by rising cost and falling score.
std::vector<HullStep> steps_of(const ChoiceGroup& group, size_t index) {
  std::vector<size_t> order(group.choices.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return cheaper(group.choices[a], group.choices[b]); });
  std::vector<HullStep> steps;
  size_t last = order.front();
  for (size_t choice : order) {
    if (group.choices[choice].score >= group.choices[last].score) {
      continue;
    }
    HullStep step = step_between(group, index, last, choice);
    while (!steps.empty() && rate(steps.back()) <= rate(step)) {
      step = step_between(group, index, steps.back().from, choice);
      steps.pop_back();
    }
    steps.push_back(step);
    last = choice;
  }
  return steps;
}

}  // namespace

std::vector<size_t> cheapest_choices(const std::vector<ChoiceGroup>& groups) {
  std::vector<size_t> chosen;
  for (const ChoiceGroup& group : groups) {
    const auto best = std::min_element(group.choices.begin(), group.choices.end(), cheaper);
    chosen.push_back(static_cast<size_t>(best - group.choices.begin()));
  }
  return chosen;
}

std::vector<HullStep> hull_steps(const std::vector<ChoiceGroup>& groups) {
  std::vector<HullStep> steps;
  for (size_t index = 0; index < groups.size(); ++index) {
    const std::vector<HullStep> own = steps_of(groups[index], index);
    steps.insert(steps.end(), own.begin(), own.end());
  }
  std::stable_sort(steps.begin(), steps.end(),
                   [](const HullStep& a, const HullStep& b) { return rate(a) > rate(b); });
  return steps;
}

}  // namespace halftone
