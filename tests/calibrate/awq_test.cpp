// calibration.md, 15.2, 15.3 and 15.11.
#include "tests/calibrate/stage_case.h"

namespace halftone::test {
namespace {

constexpr double kLossError = 1e-4;

class AwqTest : public CollectiveTest {
 protected:
  at::Tensor w_ = example_w(4, 128);
  at::Tensor x_ = example_x(8, 128);

  StageCase lite(std::shared_ptr<const Codec> codec, InputKind input = InputKind::kNone,
                 at::ScalarType dtype = at::kFloat) const {
    StageCase one = one_linear(w_, x_, std::move(codec), input, dtype);
    one.algorithm("awq_lite");
    return one;
  }
  static at::Tensor losses(const SolvedStage& solved) { return solved.choices[0].at("awq_losses"); }
  static float alpha(const SolvedStage& solved) {
    return solved.choices[0].at("awq_alpha").item<float>();
  }
  static const at::Tensor& scale(const SolvedStage& solved) {
    return solved.solution.linears[0].pre_quant_scale_K;
  }
};

TEST_F(AwqTest, LiteInt4) {
  const StageCase one = lite(make_int4_codec(128, false));
  const SolvedStage solved = one.solve(*ranks_);
  expect_each_near(solved.statistics.mean_abs[0].slice(0, 0, 5),
                   {.828125, .828125, .75, 12.3125, .828125}, 1e-6);
  expect_each_near(losses(solved),
                   {1.40784204, .71680880, .59499615, .62648886, .35709298, 2.50945687, .79096580,
                    3.87728119, 4.68689919, 24.51572609, 54.87129211},
                   kLossError);
  EXPECT_EQ(alpha(solved), 0.4f);
  EXPECT_EQ(solved.solution.linears[0].record["awq_alpha"], 0.4);
  expect_each_near(scale(solved).slice(0, 0, 4), {3.16124010, 1.68636096, 1.59153354, 1.03960574},
                   1e-6);
  EXPECT_NEAR(scale(solved).sum(at::kDouble).item<double>(), 267.492615, 1e-3);
  const at::Tensor inverse = scale(solved).reciprocal();
  expect_each_near(at::stack({inverse.min(), inverse.max()}), {.29630801, 3.37486649}, 1e-6);
  const at::Tensor w = one.edited(solved, 0);
  expect_each_near(w[0].slice(0, 0, 4), {-.31138888, -.24090335, .10799333, .72142732}, 1e-6);
  expect_each_near(w.abs().amax(1), {.80506158, .78154624, .84166521, .90178418}, 1e-6);
  expect_near(one.served(solved, 0, x_)[0], {19.446070, 12.992270, 5.511477, -.366846}, 1e-5);
}

TEST_F(AwqTest, LiteW4A8) {
  const StageCase one = lite(make_int4_codec(128, true), InputKind::kFp8);
  const SolvedStage solved = one.solve(*ranks_);
  EXPECT_EQ(alpha(solved), 0.4f);
  EXPECT_NEAR(losses(solved)[4].item<double>(), .35709298, kLossError * .357);
  EXPECT_NEAR(*solved.solution.linears[0].input_amax, 25.4703, 5e-5);
  EXPECT_NEAR(solved.solution.linears[0].weight_amax, .90178418, 1e-7);
  EXPECT_FLOAT_EQ(one.packed(solved, 0).at("weight_scale_2").item<float>(), .90178418f / 448.0f);
}

TEST_F(AwqTest, LiteNvfp4) {
  const StageCase one = lite(make_nvfp4_codec({}), InputKind::kNvfp4);
  const SolvedStage solved = one.solve(*ranks_);
  expect_each_near(losses(solved),
                   {18.89528, 4.532873, .795097, .723488, .332257, .572920, .511563, 1.285016,
                    2.042824, 2.169326, 4.592456},
                   kLossError);
  EXPECT_EQ(alpha(solved), 0.4f);
  expect_each_near(scale(solved).slice(0, 0, 3), {3.15417433, 1.68237889, 1.58844912}, 1e-6);
  EXPECT_NEAR(solved.solution.linears[0].weight_amax, .90367717, 1e-6);
  EXPECT_NEAR(*solved.solution.linears[0].input_amax, 25.4170, 5e-5);
  expect_near(one.served(solved, 0, x_)[0], {18.940838, 11.222534, 6.451111, .469969}, 1e-5);
}

TEST_F(AwqTest, LiteInBF16) {
  const SolvedStage solved =
      lite(make_int4_codec(128, false), InputKind::kNone, at::kBFloat16).solve(*ranks_);
  EXPECT_EQ(alpha(solved), 0.4f);
  EXPECT_NEAR(losses(solved)[4].item<double>(), .30439043, 1e-3 * .304);
  expect_each_near(scale(solved).slice(0, 0, 4), {3.171875, 1.6875, 1.59375, 1.0390625}, 0);
}

// Batches weigh alike: their losses add, on whichever ranks they are.
TEST_F(AwqTest, LossesOfBatchesAdd) {
  StageCase one = lite(make_int4_codec(128, false));
  one.batches = {{x_.slice(0, 0, 4)}, {x_.slice(0, 4, 8)}};
  const SolvedStage solved = one.solve(*ranks_);
  EXPECT_EQ(alpha(solved), 0.4f);
  EXPECT_NEAR(losses(solved)[4].item<double>(), .71418595, kLossError * .714);
  expect_each_near(scale(solved).slice(0, 0, 4), {3.16124010, 1.68636096, 1.59153354, 1.03960574},
                   1e-6);
}

// 16 tokens of growing magnitude, every second one in each batch (15.11).
std::vector<std::vector<at::Tensor>> uneven_batches() {
  const at::Tensor x = example_x(16, 128) * at::linspace(.5, 2, 16).unsqueeze(1);
  return {{x.slice(0, 0, 16, 2)}, {x.slice(0, 1, 16, 2)}};
}

// The reference lets every rank decide on its own batches: .8379 on one, .8278 on the other.
TEST_F(AwqTest, RanksDecideOnAllBatches) {
  StageCase one = lite(make_int4_codec(128, false));
  one.batches = uneven_batches();
  const SolvedStage solved = one.solve(*ranks_);
  EXPECT_NEAR(losses(solved)[4].item<double>(), .8379 + .8278, 2e-4);
  EXPECT_EQ(solved.statistics.input_amax[0], 47.5f);
  const auto alone = make_lone_communicator();
  const SolvedStage single = one.solve(*alone);
  EXPECT_TRUE(at::equal(losses(single), losses(solved)));
  EXPECT_TRUE(at::equal(scale(single), scale(solved)));
  EXPECT_EQ(single.statistics.mean_abs[0].equal(solved.statistics.mean_abs[0]), true);
}

class AwqClipTest : public AwqTest {
 protected:
  StageCase clip(std::shared_ptr<const Codec> codec, InputKind input = InputKind::kNone) const {
    StageCase one = one_linear(w_, x_, std::move(codec), input);
    one.algorithm("awq_clip");
    return one;
  }
};

TEST_F(AwqClipTest, Int4Blocks) {
  const StageCase one = clip(make_int4_codec(128, false));
  const SolvedStage solved = one.solve(*ranks_);
  expect_each_near(solved.choices[0].at("awq_clip_ratio"), {.95, .95, .85, .95}, 1e-7);
  EXPECT_FALSE(solved.solution.linears[0].pre_quant_scale_K.defined());
  expect_each_near(one.packed(solved, 0).at("weight_scale") * 7,
                   {.93515623, .93515623, .83671880, .93515623}, 2e-7);
}

TEST_F(AwqClipTest, Nvfp4Tensor) {
  const StageCase one = clip(make_nvfp4_codec({}), InputKind::kNvfp4);
  const SolvedStage solved = one.solve(*ranks_);
  EXPECT_EQ(solved.solution.linears[0].weight_amax, .78750002f);
  EXPECT_FLOAT_EQ(one.packed(solved, 0).at("weight_scale_2").item<float>(), .78750002f / 2688.0f);
  EXPECT_EQ(solved.solution.linears[0].record["awq_clip"], 0.8);
}

// The reference's ranks clip to .935 and .7875.
TEST_F(AwqClipTest, RanksDecideOnAllBatches) {
  StageCase one = clip(make_nvfp4_codec({}), InputKind::kNvfp4);
  one.batches = uneven_batches();
  const auto alone = make_lone_communicator();
  const float single = one.solve(*alone).solution.linears[0].weight_amax;
  EXPECT_EQ(one.solve(*ranks_).solution.linears[0].weight_amax, single);
}

TEST_F(AwqClipTest, FullClipsTheSmoothedWeight) {
  StageCase one = one_linear(w_, x_, make_int4_codec(128, false));
  one.algorithm("awq_full");
  const SolvedStage solved = one.solve(*ranks_);
  const LinearSolution& linear = solved.solution.linears[0];
  EXPECT_EQ(alpha(solved), 0.4f);
  const at::Tensor ratio = linear.block_amax.clip_ratio;
  const at::Tensor own = one.edited(solved, 0).abs().amax(1, true);
  EXPECT_TRUE(at::allclose(one.packed(solved, 0).at("weight_scale") * 7, own * ratio, 1e-6, 0));
  // Clipping makes it no worse than smoothing alone.
  const at::Tensor exact = at::linear(x_, w_);
  const auto error = [&](const StageCase& which) {
    const SolvedStage found = which.solve(*ranks_);
    return (which.served(found, 0, x_) - exact).square().mean().item<double>();
  };
  EXPECT_LE(error(one), error(lite(make_int4_codec(128, false))));
}

TEST_F(AwqTest, AnEarlierRunsChoicesGiveTheSameSolution) {
  for (const char* method : {"awq_lite", "awq_clip", "awq_full"}) {
    SCOPED_TRACE(method);
    StageCase one = one_linear(w_, x_, make_nvfp4_codec({}), InputKind::kNvfp4);
    one.algorithm(method);
    const SolvedStage first = one.solve(*ranks_);
    const SolvedStage again = one.solve_again(*ranks_, first);
    for (const auto& [suffix, tensor] : one.packed(first, 0)) {
      EXPECT_TRUE(at::equal(tensor, one.packed(again, 0).at(suffix))) << suffix;
    }
  }
}

TEST_F(AwqTest, ZeroChannelsStayFinite) {
  StageCase one = lite(make_int4_codec(128, false), InputKind::kNone, at::kHalf);
  one.tensors["m.linear.weight"].select(1, 5).zero_();
  one.batches[0][0].select(1, 7).zero_();
  const SolvedStage solved = one.solve(*ranks_);
  EXPECT_GE(alpha(solved), 0.0f);
  EXPECT_TRUE(at::isfinite(scale(solved)).all().item<bool>());
  EXPECT_TRUE((scale(solved) > 0).all().item<bool>());
  EXPECT_TRUE(at::isfinite(one.edited(solved, 0)).all().item<bool>());
}

// In FP16 the outputs overflow, so that every loss is infinite or NaN.
TEST_F(AwqTest, WithoutAFiniteLossTheLinearStaysAsItIs) {
  StageCase one = lite(make_int4_codec(128, false), InputKind::kNone, at::kHalf);
  one.tensors["m.linear.weight"].fill_(200.0f);
  one.batches[0][0] = at::full({8, 128}, 30000.0f);
  const SolvedStage solved = one.solve(*ranks_);
  EXPECT_EQ(alpha(solved), -1.0f);
  const LinearSolution& linear = solved.solution.linears[0];
  EXPECT_EQ(linear.record["fallback"], "not smoothed: no finite loss");
  EXPECT_TRUE(at::equal(scale(solved), at::ones({128}, at::kHalf)));
  EXPECT_TRUE(linear.edits.empty());
}

TEST_F(AwqClipTest, WithoutAFiniteLossNothingIsClipped) {
  StageCase one = one_linear(at::full({4, 128}, 200.0f), at::full({8, 128}, 30000.0f),
                             make_nvfp4_codec({}), InputKind::kNvfp4, at::kHalf);
  one.algorithm("awq_clip");
  EXPECT_EQ(one.solve(*ranks_).solution.linears[0].weight_amax, 200.0f);
}

}  // namespace
}  // namespace halftone::test
