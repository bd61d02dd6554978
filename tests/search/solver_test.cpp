#include "search/solver.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "search/frontier.h"

namespace halftone {
namespace {

// Least score by trying all assignments; infinity when none fits.
double brute_force(const std::vector<ChoiceGroup>& groups, int64_t budget, size_t index = 0,
                   double score = 0) {
  if (budget < 0) {
    return std::numeric_limits<double>::infinity();
  }
  if (index == groups.size()) {
    return score;
  }
  double best = std::numeric_limits<double>::infinity();
  for (const Choice& choice : groups[index].choices) {
    best =
        std::min(best, brute_force(groups, budget - choice.cost, index + 1, score + choice.score));
  }
  return best;
}

// Few weights repeat over groups, as in a model; now and then scores are equal, do not fall with
// the bits, or are below zero.
std::vector<ChoiceGroup> random_groups(std::mt19937_64& random, size_t count, size_t formats) {
  constexpr int64_t kWeights[] = {1024, 3072, 4096, 2048, 512};
  constexpr int64_t kBits[] = {72, 128, 256, 96};  // in sixteenths
  std::uniform_real_distribution<double> exponent(-9, 0), share(-0.05, 1.05);
  std::vector<ChoiceGroup> groups;
  for (size_t index = 0; index < count; ++index) {
    const int64_t weights = kWeights[random() % 5];
    double score = std::pow(10, exponent(random));
    ChoiceGroup group{"group " + std::to_string(index), {}};
    for (size_t format = 0; format < formats; ++format) {
      group.choices.push_back({weights * kBits[format], score});
      score = random() % 8 == 0 ? score : score * share(random);
    }
    groups.push_back(group);
  }
  return groups;
}

double sum_of(const std::vector<ChoiceGroup>& groups, const Assignment& assignment) {
  double score = 0;
  for (size_t index = 0; index < groups.size(); ++index) {
    score += groups[index].choices[assignment.chosen[index]].score;
  }
  return score;
}

int64_t between(CostRange range, double share) {
  return range.least + static_cast<int64_t>(share * static_cast<double>(range.most - range.least));
}

TEST(Solver, EqualsBruteForce) {
  std::mt19937_64 random(20261124);
  std::uniform_real_distribution<double> share(0, 1);
  for (int instance = 0; instance < 1000; ++instance) {
    const std::vector<ChoiceGroup> groups = random_groups(random, 1 + random() % 9, 3);
    const int64_t budget = between(cost_range(groups), share(random));
    const std::optional<Assignment> found = solve(groups, budget);
    ASSERT_TRUE(found.has_value());
    EXPECT_LE(found->cost, budget);
    EXPECT_EQ(found->score, sum_of(groups, *found));
    EXPECT_EQ(found->bound, found->score);
    const double best = brute_force(groups, budget);
    EXPECT_NEAR(found->score, best, 1e-12) << "instance " << instance;
  }
}

TEST(Solver, TwelveGroupsEqualBruteForce) {
  std::mt19937_64 random(7);
  for (int instance = 0; instance < 10; ++instance) {
    const std::vector<ChoiceGroup> groups = random_groups(random, 12, 3);
    const int64_t budget = between(cost_range(groups), 0.1 * instance);
    EXPECT_NEAR(solve(groups, budget)->score, brute_force(groups, budget), 1e-12);
  }
}

// Spec, calibration 15.10: scores as small as 1e-6 must not be taken for zero.
TEST(Solver, SmallScores) {
  std::mt19937_64 random(3);
  std::vector<ChoiceGroup> groups = random_groups(random, 9, 3);
  const int64_t budget = between(cost_range(groups), 0.4);
  const std::vector<size_t> chosen = solve(groups, budget)->chosen;
  for (ChoiceGroup& group : groups) {
    for (Choice& choice : group.choices) {
      choice.score = std::ldexp(choice.score, -40);
    }
  }
  EXPECT_EQ(solve(groups, budget)->chosen, chosen);
}

TEST(Solver, LargeModelIsProved) {
  std::mt19937_64 random(11);
  for (double share : {0.01, 0.3, 0.7, 0.99}) {
    const std::vector<ChoiceGroup> groups = random_groups(random, 600, 4);
    const int64_t budget = between(cost_range(groups), share);
    const std::optional<Assignment> found = solve(groups, budget);
    EXPECT_LE(found->cost, budget);
    EXPECT_EQ(found->bound, found->score);
  }
}

// Every step gains as much per bit as every other: bounds prune nothing, dominance has to.
TEST(Solver, EqualRates) {
  std::mt19937_64 random(13);
  std::vector<ChoiceGroup> groups = random_groups(random, 200, 3);
  for (ChoiceGroup& group : groups) {
    for (Choice& choice : group.choices) {
      choice.score = -1e-9 * static_cast<double>(choice.cost);
    }
  }
  const int64_t budget = between(cost_range(groups), 0.5) / 512 * 512 + 7;
  const std::optional<Assignment> found = solve(groups, budget);
  EXPECT_NEAR(found->score, found->bound, 1e-9 * 512 * 72);
  EXPECT_LE(found->bound, found->score);
}

TEST(Solver, Budgets) {
  const std::vector<ChoiceGroup> groups{{"a", {{4, 1.0}, {8, 0.5}, {16, 0.0}}},
                                        {"b", {{4, 3.0}, {8, 2.5}, {16, 0.0}}},
                                        {"fixed", {{10, 0.0}}}};
  EXPECT_EQ(cost_range(groups).least, 18);
  EXPECT_EQ(cost_range(groups).most, 42);
  EXPECT_FALSE(solve(groups, 17).has_value());
  EXPECT_EQ(solve(groups, 18)->chosen, (std::vector<size_t>{0, 0, 0}));
  EXPECT_EQ(solve(groups, 30)->chosen, (std::vector<size_t>{0, 2, 0}));
  EXPECT_EQ(solve(groups, 1000)->chosen, (std::vector<size_t>{2, 2, 0}));
  EXPECT_TRUE(solve({}, 0)->chosen.empty());
}

TEST(Frontier, PointsAreOptimaOfTheirCosts) {
  std::mt19937_64 random(5);
  for (int instance = 0; instance < 50; ++instance) {
    const std::vector<ChoiceGroup> groups = random_groups(random, 8, 3);
    const std::vector<Assignment> points = pareto_frontier(groups);
    EXPECT_EQ(points.front().cost, cost_range(groups).least);
    for (size_t index = 0; index < points.size(); ++index) {
      EXPECT_NEAR(points[index].score, brute_force(groups, points[index].cost), 1e-12);
      if (index > 0) {
        EXPECT_GT(points[index].cost, points[index - 1].cost);
        EXPECT_LT(points[index].score, points[index - 1].score);
      }
    }
    EXPECT_NEAR(points.back().score, solve(groups, cost_range(groups).most)->score, 1e-12);
  }
}

}  // namespace
}  // namespace halftone
