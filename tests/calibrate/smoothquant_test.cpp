// calibration.md, 15.1, and formats-and-hf-export.md, 8.8.
#include "tests/calibrate/stage_case.h"
#include "tests/formats/worked_examples.h"

namespace halftone::test {
namespace {

class SmoothQuantTest : public CollectiveTest {
 protected:
  at::Tensor w_ = at::tensor({.5f, -1.f, .25f, 2.f, 1.5f, .75f, -.125f, -.5f, -.25f, .5f, 1.f, 1.f})
                      .view({3, 4});
  // Channel 3 is never active.
  at::Tensor x_ =
      at::tensor({1.f, -8.f, .5f, 0.f, 2.f, 4.f, -.25f, 0.f, -3.f, 16.f, 1.f, 0.f}).view({3, 4});

  StageCase with(double alpha, at::ScalarType dtype = at::kFloat) const {
    StageCase one = one_linear(w_, x_, make_int8_codec(), InputKind::kInt8, dtype);
    one.algorithm("smoothquant", {{"alpha", alpha}});
    return one;
  }

  void expect(double alpha, const std::vector<double>& scale, float input_amax,
              const std::vector<double>& rows, const std::vector<double>& out) {
    const StageCase one = with(alpha);
    const SolvedStage solved = one.solve(*ranks_);
    const LinearSolution& linear = solved.solution.linears[0];
    expect_each_near(linear.pre_quant_scale_K, scale, 1e-6);
    EXPECT_EQ(linear.input_amax, input_amax);
    expect_each_near(one.edited(solved, 0).abs().amax(1), rows, 1e-6);
    expect_each_near(one.served(solved, 0, x_)[0], out, 2e-5);
  }
};

TEST_F(SmoothQuantTest, WorkedExample) {
  expect(1.0, {.33333334, .0625, 1, 10000}, 1.0f, {16, 12, 8}, {8.6899, -4.5950, -3.7736});
  expect(.5, {.70710683, .25, 1, 10000}, 4.0f, {4, 3, 2}, {8.6701, -4.6336, -3.7637});
  expect(0.0, {1.5, 1, 1, 2}, 16.0f, {1, 1, 1}, {8.6899, -4.5830, -3.8093});
}

TEST_F(SmoothQuantTest, TheScaleIsStoredInTheModelsDtype) {
  const SolvedStage solved = with(1.0, at::kBFloat16).solve(*ranks_);
  const at::Tensor& scale = solved.solution.linears[0].pre_quant_scale_K;
  EXPECT_EQ(scale.scalar_type(), at::kBFloat16);
  expect_each_near(scale, {.333984375, .0625, 1, 9984}, 0);
}

TEST_F(SmoothQuantTest, ExactBytes) {  // formats-and-hf-export.md, 8.8
  const at::Tensor w = matrix_w().slice(1, 0, 8).contiguous();
  const at::Tensor x =
      at::stack({(at::arange(8, at::kFloat).remainder(7) - 3) * .75 + .125, at::full({8}, .5f)});
  const auto stored = [&](double alpha) {
    StageCase one = one_linear(w, x, make_int8_codec(), InputKind::kInt8, at::kBFloat16);
    one.algorithm("smoothquant", {{"alpha", alpha}});
    return one.packed(one.solve(*ranks_), 0);
  };
  const PackedLinear full = stored(1.0);
  EXPECT_EQ(hex(full.at("pre_quant_scale")), "f13e3a3fcd3f0040923f1e3fd83ef13e");
  EXPECT_EQ(hex(full.at("weight")), "8110e70fed00fb8e70f03006d23abc7f");
  EXPECT_EQ(hex(full.at("weight_scale")), "140a053d57abd53b");
  EXPECT_EQ(hex(full.at("input_scale")), "0402013c");
  const PackedLinear half = stored(0.5);
  EXPECT_EQ(hex(half.at("pre_quant_scale")), "743f063fba3fb53f633fc33e903e683f");
  EXPECT_EQ(hex(half.at("weight")), "812dc82ccf00f28744e4410ab6758152");
  EXPECT_EQ(hex(half.at("weight_scale")), "0c06833cb158ac3b");
  EXPECT_EQ(hex(half.at("input_scale")), "0c06833c");
}

// The reference fails on an all-zero weight column with alpha below 1.
TEST_F(SmoothQuantTest, ZeroColumnsOfTheWeight) {
  StageCase one = with(.5);
  one.tensors["m.linear.weight"].select(1, 3).zero_();
  const SolvedStage solved = one.solve(*ranks_);
  const at::Tensor& scale = solved.solution.linears[0].pre_quant_scale_K;
  EXPECT_EQ(scale[3].item<float>(), 1.0f) << "neither weight nor input says anything";
  EXPECT_TRUE(at::isfinite(one.edited(solved, 0)).all().item<bool>());
  EXPECT_TRUE(at::isfinite(one.served(solved, 0, x_)).all().item<bool>());
}

TEST_F(SmoothQuantTest, Fp16OverflowLeavesTheLinearUnsmoothed) {
  StageCase one = with(1.0, at::kHalf);
  // A scale of 1e-4 takes the weight beyond 65504.
  one.tensors["m.linear.weight"][0][1] = 10.0f;
  one.batches[0][0] = at::tensor({1.f, 20000.f, 1.f, 1.f}).view({1, 4});
  const SolvedStage solved = one.solve(*ranks_);
  const LinearSolution& linear = solved.solution.linears[0];
  EXPECT_EQ(linear.record["fallback"], "not smoothed: the smoothed weight overflows FP16");
  EXPECT_TRUE(linear.edits.empty());
  EXPECT_TRUE(at::equal(linear.pre_quant_scale_K, at::ones({4}, at::kHalf)));
  EXPECT_EQ(linear.input_amax, 20000.0f);
}

TEST_F(SmoothQuantTest, ExpertsKeepTheirMaxCalibration) {
  StageCase one = with(1.0);
  one.stage.linears[0].expert = 0;
  const SolvedStage solved = one.solve(*ranks_);
  EXPECT_FALSE(solved.solution.linears[0].pre_quant_scale_K.defined());
  EXPECT_TRUE(solved.solution.linears[0].edits.empty());
  EXPECT_EQ(solved.solution.linears[0].input_amax, one.batches[0][0].abs().max().item<float>());
  EXPECT_EQ(one.packed(solved, 0).count("pre_quant_scale"), 0u);
}

}  // namespace
}  // namespace halftone::test
