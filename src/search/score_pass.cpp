#include "search/score_pass.h"

namespace halftone {

Scores no_scores(const SearchSpace& space) {
  Scores scores;
  for (const LinearGroup& group : space.groups) scores.emplace_back(group.candidates.size(), 0.0);
  return scores;
}

std::vector<float> as_pairs(const std::vector<double>& values) {
  std::vector<float> halves;
  for (const double value : values) {
    halves.push_back(static_cast<float>(value));
    halves.push_back(static_cast<float>(value - double{halves.back()}));
  }
  return halves;
}

std::vector<double> from_pairs(const std::vector<double>& halves) {
  std::vector<double> values;
  for (size_t i = 0; i + 1 < halves.size(); i += 2) values.push_back(halves[i] + halves[i + 1]);
  return values;
}

}  // namespace halftone
