#include "search/solver.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/check.h"
#include "search/convex_hull.h"

namespace halftone {
namespace {

constexpr size_t kMaxStates = size_t{1} << 16;

// A choice left in the search: `reduced` is what it adds to the bound of the relaxation.
struct Candidate {
  size_t choice = 0;
  int64_t cost = 0;
  double score = 0;
  double reduced = 0;
};

// Groups [0, k) decided. Steps back through `parent` give their choices.
struct State {
  int64_t cost = 0;
  double score = 0;
  double reduced = 0;
  uint32_t parent = 0;
  uint32_t candidate = 0;
};

struct Trace {
  uint32_t parent;
  uint32_t candidate;
};

const Candidate& cheapest(const std::vector<Candidate>& candidates) {
  return *std::min_element(candidates.begin(), candidates.end(),
                           [](const Candidate& a, const Candidate& b) {
                             return a.cost != b.cost ? a.cost < b.cost : a.score < b.score;
                           });
}

// A group that the relaxation leaves open.
struct Left {
  size_t group = 0;
  std::vector<Candidate> candidates;  // by rising reduced cost

  double second_best() const {
    return candidates.size() > 1 ? candidates[1].reduced : std::numeric_limits<double>::infinity();
  }
  size_t priced_choice() const { return candidates.front().choice; }
  size_t cheapest_choice() const { return cheapest(candidates).choice; }
};

// Sums over the groups that are still open.
struct Suffix {
  int64_t least = 0, most = 0;
  double least_score = 0;  // at the cheapest candidates
  int64_t priced_cost = 0;
  double priced_score = 0;  // at the candidates of no reduced cost

  Suffix before(const std::vector<Candidate>& candidates) const {
    const Candidate& low = cheapest(candidates);
    int64_t high = 0;
    for (const Candidate& candidate : candidates) {
      high = std::max(high, candidate.cost);
    }
    return {least + low.cost, most + high, least_score + low.score,
            priced_cost + candidates.front().cost, priced_score + candidates.front().score};
  }
};

class Search {
 public:
  Search(const std::vector<ChoiceGroup>& groups, int64_t budget)
      : groups_(groups), budget_(budget) {}

  Assignment run() {
    relax();
    if (multiplier_ > 0) {
      reduce();
      decide();
    }
    Assignment result = evaluated(best_);
    result.bound = dropped_ < best_score_ ? dropped_ : result.score;
    return result;
  }

 private:
  // The linear relaxation's multiplier (score per cost; 0 when the budget binds nothing), and the
  // assignment that takes every step which still fits.
  void relax() {
    best_ = cheapest_choices(groups_);
    int64_t left = budget_ - evaluated(best_).cost;
    std::vector<bool> stopped(groups_.size(), false);
    for (const HullStep& step : hull_steps(groups_)) {
      if (stopped[step.group] || step.cost > left) {
        stopped[step.group] = true;
        if (multiplier_ == 0) {
          multiplier_ = step.gain / static_cast<double>(step.cost);
        }
        continue;
      }
      left -= step.cost;
      best_[step.group] = step.to;
    }
    best_score_ = evaluated(best_).score;
  }

  double priced(const Choice& choice) const {
    return choice.score + multiplier_ * static_cast<double>(choice.cost);
  }

  // Choices that could be part of a better assignment, groups with close alternatives first.
  void reduce() {
    bound_ = -multiplier_ * static_cast<double>(budget_);
    std::vector<double> least;
    for (const ChoiceGroup& group : groups_) {
      double value = std::numeric_limits<double>::infinity();
      for (const Choice& choice : group.choices) {
        value = std::min(value, priced(choice));
      }
      least.push_back(value);
      bound_ += value;
    }
    tolerance_ = 1e-12 * (std::abs(best_score_) + std::abs(bound_));
    for (size_t index = 0; index < groups_.size(); ++index) {
      left_.push_back({index, candidates_of(groups_[index], least[index])});
    }
    std::stable_sort(left_.begin(), left_.end(), [](const Left& a, const Left& b) {
      return a.second_best() < b.second_best();
    });
    suffixes_.resize(left_.size() + 1);
    for (size_t k = left_.size(); k-- > 0;) {
      suffixes_[k] = suffixes_[k + 1].before(left_[k].candidates);
    }
  }

  std::vector<Candidate> candidates_of(const ChoiceGroup& group, double least) const {
    std::vector<Candidate> candidates;
    for (size_t index = 0; index < group.choices.size(); ++index) {
      const Choice& choice = group.choices[index];
      const double reduced = priced(choice) - least;
      if (bound_ + reduced <= best_score_ + tolerance_) {
        candidates.push_back({index, choice.cost, choice.score, reduced});
      }
    }
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.reduced < b.reduced; });
    return candidates;
  }

  void decide() {
    std::vector<State> states(1);
    for (size_t k = 0; k < left_.size() && !states.empty(); ++k) {
      std::vector<State> next;
      for (uint32_t parent = 0; parent < states.size(); ++parent) {
        for (uint32_t index = 0; index < left_[k].candidates.size(); ++index) {
          expand(states[parent], parent, index, k, next);
        }
      }
      drop_dominated(next);
      drop_excess(next);
      traces_.emplace_back();
      for (const State& state : next) {
        traces_.back().push_back({state.parent, state.candidate});
      }
      states = std::move(next);
      improve(states, k + 1);
    }
  }

  void expand(const State& state, uint32_t parent, uint32_t index, size_t k,
              std::vector<State>& next) const {
    const Candidate& candidate = left_[k].candidates[index];
    const State after{state.cost + candidate.cost, state.score + candidate.score,
                      state.reduced + candidate.reduced, parent, index};
    const Suffix& rest = suffixes_[k + 1];
    // What stays unspent even with the costliest rest is paid for at the multiplier.
    const int64_t unspent = std::max<int64_t>(0, budget_ - after.cost - rest.most);
    const double bound = bound_ + after.reduced + multiplier_ * static_cast<double>(unspent);
    if (after.cost + rest.least <= budget_ && bound <= best_score_ + tolerance_) {
      next.push_back(after);
    }
  }

  static void drop_dominated(std::vector<State>& states) {
    std::stable_sort(states.begin(), states.end(), [](const State& a, const State& b) {
      return a.cost != b.cost ? a.cost < b.cost : a.score < b.score;
    });
    double least = std::numeric_limits<double>::infinity();
    std::erase_if(states, [&](const State& state) {
      const bool dominated = state.score >= least;
      least = std::min(least, state.score);
      return dominated;
    });
  }

  void drop_excess(std::vector<State>& states) {
    if (states.size() <= kMaxStates) {
      return;
    }
    std::stable_sort(states.begin(), states.end(),
                     [](const State& a, const State& b) { return a.reduced < b.reduced; });
    dropped_ = std::min(dropped_, bound_ + states[kMaxStates].reduced);
    states.resize(kMaxStates);
  }

  // Completes the states in the two ways whose sums are known: at the multiplier's own choices, and
  // at the cheapest ones.
  void improve(const std::vector<State>& states, size_t k) {
    const Suffix& rest = suffixes_[k];
    for (uint32_t index = 0; index < states.size(); ++index) {
      const State& state = states[index];
      if (state.cost + rest.priced_cost <= budget_ &&
          state.score + rest.priced_score < best_score_) {
        take(index, k, &Left::priced_choice);
      }
      if (state.score + rest.least_score < best_score_) {
        take(index, k, &Left::cheapest_choice);
      }
    }
  }

  void take(uint32_t state, size_t k, size_t (Left::*rest)() const) {
    for (size_t open = k; open < left_.size(); ++open) {
      best_[left_[open].group] = (left_[open].*rest)();
    }
    for (size_t level = k; level-- > 0;) {
      const Trace& trace = traces_[level][state];
      best_[left_[level].group] = left_[level].candidates[trace.candidate].choice;
      state = trace.parent;
    }
    best_score_ = evaluated(best_).score;
  }

  Assignment evaluated(const std::vector<size_t>& chosen) const {
    Assignment result;
    for (size_t index = 0; index < groups_.size(); ++index) {
      const Choice& choice = groups_[index].choices[chosen[index]];
      result.cost += choice.cost;
      result.score += choice.score;
    }
    result.chosen = chosen;
    return result;
  }

  const std::vector<ChoiceGroup>& groups_;
  int64_t budget_;
  double multiplier_ = 0;
  double bound_ = 0;      // the relaxation's
  double tolerance_ = 0;  // of sums' rounding
  std::vector<size_t> best_;
  double best_score_ = 0;
  double dropped_ = std::numeric_limits<double>::infinity();
  std::vector<Left> left_;
  std::vector<Suffix> suffixes_;  // of the groups from k on
  std::vector<std::vector<Trace>> traces_;
};

}  // namespace

CostRange cost_range(const std::vector<ChoiceGroup>& groups) {
  CostRange range;
  for (const ChoiceGroup& group : groups) {
    check(!group.choices.empty(), "a group has choices");
    const auto [low, high] =
        std::minmax_element(group.choices.begin(), group.choices.end(),
                            [](const Choice& a, const Choice& b) { return a.cost < b.cost; });
    check(low->cost >= 0, "costs are not negative");
    range.least += low->cost;
    range.most += high->cost;
  }
  return range;
}

std::optional<Assignment> solve(const std::vector<ChoiceGroup>& groups, int64_t budget) {
  for (const ChoiceGroup& group : groups) {
    for (const Choice& choice : group.choices) {
      check(std::isfinite(choice.score), "scores are finite");
    }
  }
  if (cost_range(groups).least > budget) {
    return std::nullopt;
  }
  return Search(groups, budget).run();
}

}  // namespace halftone
