#include "model/routers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

using Kind = RouterSpec::Kind;
using Row = std::vector<double>;

Row row_of(const at::Tensor& x_TE, int64_t row) {
  const at::Tensor wide = x_TE[row].to(at::kDouble).contiguous();
  return {wide.const_data_ptr<double>(), wide.const_data_ptr<double>() + wide.numel()};
}

// The places of the largest values, the largest first.
std::vector<size_t> best(const Row& values, size_t count) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return values[a] > values[b]; });
  order.resize(count);
  return order;
}

// Checks chosen experts and weights in any order.
void expect_row(const Routing& routing, int64_t row, const std::vector<size_t>& ids,
                const Row& weights) {
  ASSERT_EQ(routing.ids_TK.size(1), static_cast<int64_t>(ids.size()));
  for (size_t i = 0; i < ids.size(); ++i) {
    const at::Tensor place = routing.ids_TK[row] == static_cast<int64_t>(ids[i]);
    ASSERT_EQ(place.sum().item<int64_t>(), 1) << "expert " << ids[i] << " of token " << row;
    EXPECT_NEAR(routing.weights_TK[row].index({place}).item<double>(), weights[i], 1e-6);
  }
}

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

TEST(Router, SoftmaxOverAll) {
  const at::Tensor logits = 2.0 * numbers({6, 5}, 1);
  for (const bool renormalize : {false, true}) {
    RouterSpec router{Kind::kSoftmax, 5, 2, renormalize};
    router.scaling = 1.5;
    const Routing routing = route(router, logits, {});
    for (int64_t t = 0; t < 6; ++t) {
      Row shares = row_of(logits, t);
      double total = 0.0;
      for (double& share : shares) total += share = std::exp(share);
      const std::vector<size_t> ids = best(shares, 2);
      if (renormalize) total = shares[ids[0]] + shares[ids[1]];
      expect_row(routing, t, ids, {1.5 * shares[ids[0]] / total, 1.5 * shares[ids[1]] / total});
    }
  }
}

TEST(Router, OfTheChosenLogits) {
  const at::Tensor logits = 2.0 * numbers({6, 5}, 1);
  const Routing softmax = route({Kind::kSoftmaxOfChosen, 5, 2}, logits, {});
  const Routing single = route({Kind::kSigmoidOfLogit, 5, 2}, logits, {});
  for (int64_t t = 0; t < 6; ++t) {
    const Row row = row_of(logits, t);
    const std::vector<size_t> ids = best(row, 2);
    const double first = sigmoid(row[ids[0]] - row[ids[1]]);
    expect_row(softmax, t, ids, {first, 1.0 - first});
    expect_row(single, t, ids, {sigmoid(row[ids[0]]), sigmoid(row[ids[1]])});
  }
}

TEST(Router, GroupsAndCorrection) {
  const at::Tensor logits = 2.0 * numbers({40, 12}, 1);
  const at::Tensor correction = 0.4 * numbers({12}, 2);
  RouterSpec router{Kind::kSigmoidGroups, 12, 3, /*renormalize=*/true, 2.5, 4, 2};
  const Routing routing = route(router, logits, correction);
  int without_groups = 0;
  for (int64_t t = 0; t < 40; ++t) {
    const Row scores = row_of(logits.sigmoid(), t);
    Row ranking = row_of(logits.sigmoid() + correction, t);
    const std::vector<size_t> free_choice = best(ranking, 3);
    Row strength;
    for (size_t g = 0; g < 4; ++g) {
      const Row group(ranking.begin() + 3 * static_cast<std::ptrdiff_t>(g),
                      ranking.begin() + 3 * static_cast<std::ptrdiff_t>(g) + 3);
      const std::vector<size_t> two = best(group, 2);
      strength.push_back(group[two[0]] + group[two[1]]);
    }
    const std::vector<size_t> kept = best(strength, 2);
    for (size_t e = 0; e < 12; ++e) {
      if (e / 3 != kept[0] && e / 3 != kept[1]) ranking[e] = -INFINITY;
    }
    const std::vector<size_t> ids = best(ranking, 3);
    const double total = scores[ids[0]] + scores[ids[1]] + scores[ids[2]];
    expect_row(
        routing, t, ids,
        {2.5 * scores[ids[0]] / total, 2.5 * scores[ids[1]] / total, 2.5 * scores[ids[2]] / total});
    without_groups += ids != free_choice;
  }
  EXPECT_GT(without_groups, 0) << "groups must matter";
}

TEST(Router, SparseMixer) {
  const at::Tensor logits = 2.0 * numbers({40, 6}, 1);
  const Routing routing = route({Kind::kSparseMixer, 6, 2, false, 1.0, 1, 1, 0.2}, logits, {});
  int dropped = 0;
  for (int64_t t = 0; t < 40; ++t) {
    const Row row = row_of(logits, t);
    const std::vector<size_t> ids = best(row, 2);
    Row weights;
    for (size_t step = 0; step < 2; ++step) {
      const double top = row[ids[step]];
      double total = 0.0;
      for (size_t e = 0; e < 6; ++e) {
        if (step == 1 && e == ids[0]) continue;
        const bool counts = (top - row[e]) / std::max(std::abs(row[e]), top) <= 0.4;
        dropped += !counts;
        if (counts) total += std::exp(row[e] - top);
      }
      weights.push_back(1.0 / total);
    }
    expect_row(routing, t, ids, weights);
  }
  EXPECT_GT(dropped, 0) << "the threshold must matter";
}

TEST(Router, WidensByItsRanking) {
  const at::Tensor logits = 2.0 * numbers({20, 8}, 1);
  const at::Tensor correction = 0.4 * numbers({8}, 2);
  for (const Kind kind : {Kind::kSoftmax, Kind::kSoftmaxOfChosen, Kind::kSigmoidOfLogit,
                          Kind::kSigmoidGroups, Kind::kSparseMixer}) {
    const bool grouped = kind == Kind::kSigmoidGroups;
    const RouterSpec router{kind, 8, 2, false, 1.0, grouped ? 4 : 1, grouped ? 1 : 1, 0.1};
    const Routing routing = route(router, logits, grouped ? correction : at::Tensor());
    const Routing wide = widen(router, routing, 5);
    EXPECT_TRUE(at::equal(wide.ids_TK.slice(1, 0, 2), routing.ids_TK));
    EXPECT_TRUE(at::equal(wide.weights_TK.slice(1, 0, 2), routing.weights_TK));
    for (int64_t t = 0; t < 20; ++t) {
      Row ranking = row_of(routing.ranking_TE, t);
      for (int64_t i = 0; i < 2; ++i) {
        ranking[static_cast<size_t>(routing.ids_TK[t][i].item<int64_t>())] = -INFINITY;
      }
      const std::vector<size_t> more = best(ranking, 3);
      for (int64_t i = 0; i < 3; ++i) {
        const auto id = static_cast<int64_t>(more[static_cast<size_t>(i)]);
        EXPECT_EQ(wide.ids_TK[t][2 + i].item<int64_t>(), id);
        const double weight =
            kind == Kind::kSigmoidOfLogit ? sigmoid(ranking[more[static_cast<size_t>(i)]]) : 0.0;
        EXPECT_NEAR(wide.weights_TK[t][2 + i].item<double>(), weight, 1e-6);
      }
    }
    EXPECT_EQ(widen(router, routing, 1).ids_TK.size(1), 2) << "never fewer";
    EXPECT_EQ(widen(router, routing, 100).ids_TK.size(1), 8) << "never more than there are";
  }
}

}  // namespace
}  // namespace halftone::test
