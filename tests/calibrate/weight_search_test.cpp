// calibration.md, 15.4 and 15.5.
#include "calibrate/algorithms/weight_search.h"

#include "tests/calibrate/stage_case.h"
#include "tests/formats/worked_examples.h"

namespace halftone::test {
namespace {

class WeightSearchTest : public CollectiveTest {
 protected:
  at::Tensor w_ = example_w(2, 32);
  at::Tensor x_ = example_x(6, 32);

  StageCase with(std::shared_ptr<const Codec> codec, const std::string& method,
                 const Json& options = Json::object()) const {
    const InputKind input = frozen_nvfp4(*codec)
                                ? InputKind::kNvfp4
                                : (codec->name() == "fp8" ? InputKind::kFp8 : InputKind::kNone);
    StageCase one = one_linear(w_, x_, std::move(codec), input);
    one.algorithm(method, options);
    return one;
  }

  // The stored weight is what these block amaxes give; the mean squared error of reading it back.
  void expect_blocks(const StageCase& one, const std::vector<float>& block_amax, double error) {
    const SolvedStage solved = one.solve(*ranks_);
    const Codec& codec = *one.plan.linears[0].codec;
    const int64_t blocks = static_cast<int64_t>(block_amax.size()) / 2;
    const at::Tensor amax = at::tensor(block_amax).view({2, blocks});
    const PackedLinear expected = codec.pack(w_, {.984375f, amax}, Numerics::kCpu, nullptr);
    const PackedLinear found = one.packed(solved, 0);
    if (codec.name().starts_with("nvfp4")) {
      EXPECT_EQ(hex(found.at("weight_scale")), hex(expected.at("weight_scale")));
      EXPECT_EQ(hex(found.at("weight_scale_2")), hex(expected.at("weight_scale_2")));
    } else {
      EXPECT_TRUE(at::allclose(found.at("weight_scale"), expected.at("weight_scale"), 1e-6, 0))
          << found.at("weight_scale");
    }
    EXPECT_EQ(hex(found.at("weight")), hex(expected.at("weight")));
    const at::Tensor back = codec.unpack(found, at::kFloat, nullptr);
    if (error > 0.0) {
      EXPECT_NEAR((back - w_).square().mean().item<double>(), error, 0.002 * error);
    }
  }
};

TEST_F(WeightSearchTest, Int8Rows) {
  expect_blocks(with(make_int8_codec(), "max"), {.984375f, .96875f}, 4.74e-6);
  expect_blocks(with(make_int8_codec(), "mse"), {1.02323198f, 1.00699019f}, 5.78e-6);
}

TEST_F(WeightSearchTest, Int4Blocks) {
  expect_blocks(with(make_int4_codec(16, false), "max"), {.984375f, .984375f, .921875f, .96875f},
                0.0);
  expect_blocks(with(make_int4_codec(16, false), "mse"),
                {.82894737f, .92608970f, .86729032f, .91138983f}, 0.0);
}

TEST_F(WeightSearchTest, Fp8Tensor) {
  EXPECT_EQ(with(make_fp8_codec(), "max").solve(*ranks_).solution.linears[0].weight_amax, .984375f);
  EXPECT_NEAR(with(make_fp8_codec(), "mse").solve(*ranks_).solution.linears[0].weight_amax,
              3.45178866, 1e-6);
}

TEST_F(WeightSearchTest, Nvfp4) {
  expect_blocks(with(frozen_nvfp4_codec(), "max"), {.984375f, .984375f, .921875f, .96875f},
                .00355572);
  expect_blocks(with(frozen_nvfp4_codec(), "mse", {{"fp8_scale_sweep", true}}),
                {.9140625f, .984375f, .84375f, .9140625f}, .00265986);
  expect_blocks(with(frozen_nvfp4_codec(), "mse"),
                {.92608970f, 1.02323198f, .86729032f, .91138983f}, 0.0);
}

TEST_F(WeightSearchTest, FourOverSix) {
  const auto codec = make_nvfp4_codec({16, 1536.0f, true, 256.0f});
  expect_blocks(with(codec, "max"), {.984375f, .984375f, .921875f, .96875f}, .00361267);
  expect_blocks(
      with(codec, "mse", {{"start_multiplier", 1.0}, {"stop_multiplier", 1.5}, {"step_size", 0.5}}),
      {1.4765625f, 1.4765625f, 1.3828125f, 1.453125f}, .00285737);
}

TEST_F(WeightSearchTest, LocalHessian) {
  StageCase one = with(frozen_nvfp4_codec(), "local_hessian");
  expect_blocks(one, {.7734375f, .984375f, .84375f, .84375f}, 0.0);
  // The second moments are summed over the ranks.
  one.batches = {{x_.slice(0, 0, 2)}, {x_.slice(0, 2, 5)}, {x_.slice(0, 5, 6)}};
  expect_blocks(one, {.7734375f, .984375f, .84375f, .84375f}, 0.0);
}

TEST_F(WeightSearchTest, LocalHessianWithoutTokensIsLeastSquares) {
  StageCase one = with(frozen_nvfp4_codec(), "local_hessian", {{"fp8_scale_sweep", true}});
  one.stage.linears[0].expert = 0;
  one.batches[0][0].reset();
  expect_blocks(one, {.9140625f, .984375f, .84375f, .9140625f}, .00265986);
}

TEST_F(WeightSearchTest, TheSweepLeavesOtherFormatsAtTheMaximum) {
  expect_blocks(with(make_int8_codec(), "mse", {{"fp8_scale_sweep", true}}), {.984375f, .96875f},
                4.74e-6);
}

TEST(Sweep, IsEveryPositiveE4m3) {
  const std::vector<float> sweep = e4m3_sweep();
  ASSERT_EQ(sweep.size(), 126u);
  EXPECT_NEAR(sweep.front(), 4.35965e-6, 1e-11);
  EXPECT_EQ(sweep.back(), 1.0f);
  EXPECT_TRUE(std::is_sorted(sweep.begin(), sweep.end()));
}

class HeadroomTest : public CollectiveTest {
 protected:
  float input_amax(const std::vector<at::Tensor>& batches, const Json& options) {
    StageCase one;
    one.add("m", example_w(2, batches[0].size(1)), make_nvfp4_codec({}), InputKind::kNvfp4);
    for (const at::Tensor& x : batches) one.batches.push_back({x});
    one.algorithm("nvfp4_act_headroom", options);
    return *one.solve(*ranks_).solution.linears[0].input_amax;
  }
  static Json options(double anchor, double upper, double rho) {
    return {{"anchor_percentile", anchor}, {"upper_percentile", upper}, {"rho", rho}};
  }
};

TEST_F(HeadroomTest, WorkedExample) {
  const at::Tensor t = at::arange(200).unsqueeze(1);
  const at::Tensor i = at::arange(16);
  const at::Tensor x =
      (1 + (16 * t + i).remainder(7)).to(at::kFloat) * at::pow(2.0, -t.remainder(4).to(at::kFloat));
  // The histogram is the same however the tokens are dealt to batches and ranks.
  for (const std::vector<at::Tensor>& batches :
       {std::vector<at::Tensor>{x},
        std::vector<at::Tensor>{x.slice(0, 0, 70), x.slice(0, 70, 71), x.slice(0, 71, 200)}}) {
    EXPECT_FLOAT_EQ(input_amax(batches, options(1, 99.99, 64)), 54.403404235839844f);
    EXPECT_FLOAT_EQ(input_amax(batches, options(1, 100, 64)), 54.403404235839844f);
    EXPECT_FLOAT_EQ(input_amax(batches, options(1, 50, 16)), 13.600851058959961f);
    EXPECT_FLOAT_EQ(input_amax(batches, options(50, 99, 2)), 6.6547064781188965f);
    EXPECT_FLOAT_EQ(input_amax(batches, options(1, 99.99, 1.5)), 6.6547064781188965f);
  }
}

TEST_F(HeadroomTest, OfTheSearchesInput) {
  EXPECT_NEAR(input_amax({example_x(6, 32)}, Json::object()), 21478.7891, 1e-3);
  EXPECT_NEAR(input_amax({example_x(6, 32)}, {{"rho", 2}}), 24.4096, 5e-5);
  EXPECT_EQ(input_amax({example_x(6, 32)}, {{"rho", 2}, {"upper_percentile", 100}}), 24.5f);
}

TEST_F(HeadroomTest, InputsThatAreAllZeroKeepTheirMaximum) {
  StageCase one =
      one_linear(example_w(2, 32), at::zeros({4, 32}), make_nvfp4_codec({}), InputKind::kNvfp4);
  one.algorithm("nvfp4_act_headroom");
  const SolvedStage solved = one.solve(*ranks_);
  EXPECT_EQ(solved.solution.linears[0].input_amax, 0.0f);
  EXPECT_EQ(solved.solution.linears[0].record["fallback"],
            "no histogram of the input: its largest value instead");
}

}  // namespace
}  // namespace halftone::test
