#include "search/frontier.h"

#include "search/convex_hull.h"

namespace halftone {
namespace {

Assignment evaluated(const std::vector<ChoiceGroup>& groups, std::vector<size_t> chosen) {
  Assignment point;
  for (size_t index = 0; index < groups.size(); ++index) {
    const Choice& choice = groups[index].choices[chosen[index]];
    point.cost += choice.cost;
    point.score += choice.score;
  }
  point.bound = point.score;
  point.chosen = std::move(chosen);
  return point;
}

}  // namespace

std::vector<Assignment> pareto_frontier(const std::vector<ChoiceGroup>& groups) {
  std::vector<size_t> chosen = cheapest_choices(groups);
  std::vector<Assignment> points{evaluated(groups, chosen)};
  for (const HullStep& step : hull_steps(groups)) {
    chosen[step.group] = step.to;
    points.push_back(evaluated(groups, chosen));
  }
  return points;
}

}  // namespace halftone
