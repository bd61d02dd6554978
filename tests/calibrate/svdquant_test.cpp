// calibration.md, 15.7.
#include "calibrate/low_rank.h"
#include "tests/calibrate/stage_case.h"

namespace halftone::test {
namespace {

class SvdQuantTest : public CollectiveTest {
 protected:
  static at::Tensor branch(const LinearSolution& linear) {
    return at::mm(linear.low_rank_b_NR, linear.low_rank_a_RK);
  }
  static void expect_zero(const at::Tensor& x, double tolerance) {
    EXPECT_LE(x.abs().max().item<double>(), tolerance);
  }
};

TEST_F(SvdQuantTest, WorkedExample) {
  const at::Tensor x = example_x(16, 32);
  StageCase one = one_linear(example_w(8, 32), x, make_nvfp4_codec({}), InputKind::kNvfp4);
  one.algorithm("svdquant", {{"lowrank", 2}});
  const SolvedStage solved = one.solve(*ranks_);
  const LinearSolution& linear = solved.solution.linears[0];
  expect_near(branch(linear)[0].slice(0, 0, 4), {-.2713, -.1684, .0878, 1.5631}, 5e-5);
  EXPECT_NEAR(linear.weight_amax, .51338971, 1e-6);
  EXPECT_NEAR(*linear.input_amax, 12.9117, 5e-5);
  expect_near(
      one.served(solved, 0, x)[0],
      {27.185490, 25.607586, 23.917097, 22.721598, -14.115618, -14.756190, -15.597481, -16.294994},
      1e-5);
  const PackedLinear packed = one.packed(solved, 0);
  EXPECT_EQ(packed.at(kLowRankA).sizes().vec(), (std::vector<int64_t>{2, 32}));
  EXPECT_EQ(packed.at(kLowRankB).sizes().vec(), (std::vector<int64_t>{8, 2}));
  EXPECT_EQ(packed.count("pre_quant_scale"), 1u);
}

// q, k and v: one scale, one A, row slices of B, each its own residual.
TEST_F(SvdQuantTest, FusedLinearsShareTheirFactors) {
  const at::Tensor x = example_x(16, 32);
  StageCase three;
  for (int64_t i = 0; i < 3; ++i) {
    LinearSite site;
    site.name = "m." + std::to_string(i);
    site.fused_group = 0;
    three.add(site, example_w(12, 32).slice(0, 4 * i, 4 * i + 4 - i), make_nvfp4_codec({}),
              InputKind::kNvfp4);
  }
  three.batches = {{x, x, x}};
  three.algorithm("svdquant", {{"lowrank", 3}});
  const SolvedStage solved = three.solve(*ranks_);
  std::vector<at::Tensor> smoothed;
  std::vector<at::Tensor> branches;
  const auto& linears = solved.solution.linears;
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(at::equal(linears[i].pre_quant_scale_K, linears[0].pre_quant_scale_K));
    EXPECT_TRUE(at::equal(linears[i].low_rank_a_RK, linears[0].low_rank_a_RK));
    EXPECT_EQ(linears[i].weight_amax, linears[0].weight_amax);
    EXPECT_EQ(linears[i].input_amax, linears[0].input_amax);
    branches.push_back(branch(linears[i]));
    smoothed.push_back(three.edited(solved, i) + branches.back());
    // Nothing is lost but rounding: residual plus branch is the smoothed weight.
    expect_zero(smoothed.back() * linears[i].pre_quant_scale_K -
                    three.tensors.at(three.stage.linears[i].weight),
                1e-5);
  }
  const auto [b, a] = low_rank_factors(at::cat(smoothed), 3);
  expect_zero(at::cat(branches) - at::mm(b, a), 1e-5);
}

TEST_F(SvdQuantTest, SkippedLayersStayQuantizedWithoutABranch) {
  StageCase one =
      one_linear(example_w(8, 32), example_x(16, 32), make_nvfp4_codec({}), InputKind::kNvfp4);
  one.algorithm("svdquant", {{"lowrank", 2}, {"skip_layers", {"*other", "m.lin*"}}});
  const SolvedStage solved = one.solve(*ranks_);
  EXPECT_FALSE(solved.solution.linears[0].low_rank_a_RK.defined());
  EXPECT_TRUE(solved.solution.linears[0].edits.empty());
  EXPECT_EQ(one.packed(solved, 0).size(), 4u);
}

TEST(LowRankFactors, AreTheBestApproximation) {
  for (const auto& [rows, cols] : {std::pair(6, 9), std::pair(9, 6), std::pair(5, 5)}) {
    const at::Tensor v = at::sin(at::arange(rows * cols, at::kDouble).square()).view({rows, cols});
    const auto [u, s, vh] = at::linalg_svd(v, /*full_matrices=*/false);
    for (const int64_t rank : {1, 3, 5}) {
      const auto [b, a] = low_rank_factors(v, rank);
      const at::Tensor best =
          at::mm(u.slice(1, 0, rank) * s.slice(0, 0, rank), vh.slice(0, 0, rank));
      EXPECT_LE((at::mm(b, a) - best).abs().max().item<double>(), 1e-9);
      // Each column of b is a singular vector times its value, its largest component positive.
      EXPECT_TRUE(at::allclose(b.norm(2, 0), s.slice(0, 0, rank)));
      EXPECT_TRUE((b.gather(0, b.abs().argmax(0, true)) > 0).all().item<bool>());
    }
  }
}

TEST(LowRankFactors, OfMatricesWithLessRank) {
  const at::Tensor zero = at::zeros({4, 6});
  const auto [b0, a0] = low_rank_factors(zero, 2);
  EXPECT_TRUE(at::equal(at::mm(b0, a0), zero.to(at::kDouble)));
  EXPECT_TRUE(at::isfinite(a0).all().item<bool>() && at::isfinite(b0).all().item<bool>());
  const at::Tensor thin = at::arange(1, 13, at::kDouble).view({2, 6});
  const auto [b, a] = low_rank_factors(thin, 8);
  EXPECT_EQ(b.sizes().vec(), (std::vector<int64_t>{2, 8}));
  EXPECT_EQ(a.sizes().vec(), (std::vector<int64_t>{8, 6}));
  EXPECT_LE((at::mm(b, a) - thin).abs().max().item<double>(), 1e-9);
}

}  // namespace
}  // namespace halftone::test
