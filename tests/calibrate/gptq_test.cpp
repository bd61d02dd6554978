// calibration.md, 15.6, and what happens to Hessians that no Cholesky factor exists for.
#include "calibrate/algorithms/gptq_solver.h"
#include "core/error.h"
#include "tests/calibrate/stage_case.h"

namespace halftone::test {
namespace {

// The codes of packed INT4, [out, in].
at::Tensor int4_codes(const at::Tensor& bytes) {
  const at::Tensor low = bytes.bitwise_and(15).to(at::kLong);
  const at::Tensor high = bytes.bitwise_right_shift(4).to(at::kLong);
  const at::Tensor codes = at::stack({low, high}, 1).view({-1, bytes.size(1)});
  return at::where(codes > 7, codes - 16, codes);
}

class GptqTest : public CollectiveTest {
 protected:
  at::Tensor w_ = example_w(2, 32);
  at::Tensor x_ = example_x(40, 32);

  StageCase with(std::shared_ptr<const Codec> codec, const Json& options = Json::object()) const {
    const InputKind input = frozen_nvfp4(*codec) ? InputKind::kNvfp4 : InputKind::kNone;
    StageCase one = one_linear(w_, x_, std::move(codec), input);
    one.algorithm("gptq", options);
    return one;
  }
  // Rounded to nearest with the same scales.
  at::Tensor nearest() const {
    const auto codec = make_int4_codec(16, false);
    return codec->pack(w_, {.984375f, {}}, Numerics::kCpu, nullptr).at("weight");
  }
};

const std::vector<int64_t> kCodes{
    -7, -3, 1,  5, -5, -1, 3,  -7, -3, 2,  7,  -4, 0,  4,  -6, -2,  // row 0
    2,  7,  -4, 1, 5,  -5, -1, 3,  7,  -3, -5, 6,  -5, -1, 3,  -5,  //
    -7, -3, 2,  6, -5, 0,  4,  -6, -2, 2,  7,  -4, 0,  5,  -6, -1,  // row 1
    3,  7,  -3, 1, 5,  -5, -1, 3,  -6, -3, 1,  6,  -5, -1, 4,  -6};

TEST_F(GptqTest, Int4Codes) {
  for (const int block_size : {128, 16, 5}) {
    SCOPED_TRACE(block_size);
    const StageCase one = with(make_int4_codec(16, false), {{"block_size", block_size}});
    const SolvedStage solved = one.solve(*ranks_);
    const PackedLinear packed = one.packed(solved, 0);
    EXPECT_TRUE(at::equal(int4_codes(packed.at("weight")), at::tensor(kCodes).view({2, 32})));
    expect_each_near(packed.at("weight_scale") * 7, {.984375, .984375, .921875, .96875}, 1e-6);
    const Json& record = solved.solution.linears[0].record;
    EXPECT_NEAR(record["gptq_relative_error"].get<double>(), 3.53e-4, 1e-6);
    EXPECT_FLOAT_EQ(record["gptq_damping"].get<float>(), 0.01f);
    EXPECT_FALSE(record.contains("fallback"));
    expect_each_near(one.served(solved, 0, x_)[0], {27.566895, 25.833223}, 1e-5);
  }
}

TEST_F(GptqTest, Nvfp4) {
  const StageCase one = with(frozen_nvfp4_codec());
  const SolvedStage solved = one.solve(*ranks_);
  EXPECT_NEAR(solved.solution.linears[0].record["gptq_relative_error"].get<double>(), 1.09e-3,
              1e-5);
  EXPECT_EQ(solved.solution.linears[0].weight_amax, .984375f);
  expect_each_near(one.served(solved, 0, x_)[0], {26.622009, 24.791830}, 1e-5);
}

TEST_F(GptqTest, HessiansOfAllRanksCount) {
  StageCase one = with(make_int4_codec(16, false));
  one.batches.clear();
  for (int64_t b = 0; b < 5; ++b) one.batches.push_back({x_.slice(0, 8 * b, 8 * b + 8)});
  const SolvedStage solved = one.solve(*ranks_);
  EXPECT_TRUE(
      at::equal(int4_codes(one.packed(solved, 0).at("weight")), at::tensor(kCodes).view({2, 32})));
  const auto alone = make_lone_communicator();
  EXPECT_TRUE(at::equal(solved.choices[0].at("gptq_weight"),
                        one.solve(*alone).choices[0].at("gptq_weight")));
}

TEST_F(GptqTest, ActivationOrderLosesNoMore) {
  const auto error = [&](const Json& options) {
    return with(make_int8_codec(), options)
        .solve(*ranks_)
        .solution.linears[0]
        .record["gptq_relative_error"]
        .get<double>();
  };
  const double in_order = error(Json::object());
  const double by_size = error({{"act_order", true}});
  EXPECT_NE(in_order, by_size);
  EXPECT_LT(by_size, 1e-3);
}

TEST_F(GptqTest, WithoutTokensItRoundsToNearest) {
  StageCase one = with(make_int4_codec(16, false));
  one.stage.linears[0].expert = 0;
  one.batches[0][0].reset();
  const SolvedStage solved = one.solve(*ranks_);
  EXPECT_TRUE(at::equal(one.packed(solved, 0).at("weight"), nearest()));
}

TEST_F(GptqTest, ARankOneHessianIsDamped) {
  StageCase one = with(make_int4_codec(16, false), {{"perc_damp", 0.0}});
  one.batches[0][0] = at::ones({3, 32});
  const SolvedStage solved = one.solve(*ranks_);
  const LinearSolution& linear = solved.solution.linears[0];
  EXPECT_EQ(linear.record["gptq_damping"], -1.0) << "ten times no damping is none";
  EXPECT_EQ(linear.record["fallback"], "its Hessian is not positive definite: rounded to nearest");
  EXPECT_TRUE(at::equal(one.packed(solved, 0).at("weight"), nearest()));

  one.recipe.algorithms[0].options = Json::object();
  const SolvedStage damped = one.solve(*ranks_);
  EXPECT_GT(damped.solution.linears[0].record["gptq_damping"].get<double>(), 0.0);
  const at::Tensor exact = at::linear(at::ones({1, 32}), w_);
  const auto error = [&](const at::Tensor& weight) {
    return (at::linear(at::ones({1, 32}), weight) - exact).abs().max().item<float>();
  };
  const auto codec = make_int4_codec(16, false);
  EXPECT_LT(error(one.edited(damped, 0)),
            error(codec->unpack(codec->pack(w_, {.984375f, {}}, Numerics::kCpu, nullptr),
                                at::kFloat, nullptr)));
}

GptqGrid int4_grid(const at::Tensor& w) {
  return {GptqGrid::Kind::kInt4, 16, w.view({2, 2, 16}).abs().amax(2) / 7};
}

TEST_F(GptqTest, SolverOnHessiansThatAreNone) {
  const at::Tensor rounded =
      solve_gptq(w_, at::eye(32), int4_grid(w_), {}).w_NK;  // no column tells of another
  const at::Tensor indefinite = at::eye(32);
  indefinite[0][1] = indefinite[1][0] = 1e6;
  for (const at::Tensor& hessian :
       {at::zeros({32, 32}), indefinite, at::full({32, 32}, NAN), at::full({32, 32}, INFINITY)}) {
    const GptqResult result = solve_gptq(w_, hessian, int4_grid(w_), {});
    EXPECT_TRUE(at::equal(result.w_NK, rounded)) << hessian[0][0];
  }
  EXPECT_LT(solve_gptq(w_, indefinite, int4_grid(w_), {}).damping, 0.0);
}

TEST_F(GptqTest, DeadColumnsDoNotDisturbOthers) {
  StageCase one = with(make_int4_codec(16, false));
  one.tensors["m.linear.weight"].select(1, 4).zero_();
  one.batches[0][0].select(1, 9).zero_();
  const SolvedStage solved = one.solve(*ranks_);
  const LinearSolution& linear = solved.solution.linears[0];
  EXPECT_FLOAT_EQ(linear.record["gptq_damping"].get<float>(), 0.01f);
  const at::Tensor w = one.edited(solved, 0);
  EXPECT_TRUE(at::isfinite(w).all().item<bool>());
  EXPECT_EQ(w.select(1, 4).abs().max().item<float>(), 0.0f);
}

TEST_F(GptqTest, WithoutItsChoicesTheStoreIsNotEnough) {
  const StageCase one = with(make_int4_codec(16, false));
  SolvedStage solved = one.solve(*ranks_);
  solved.choices[0].clear();
  EXPECT_THROW(one.solve_again(*ranks_, solved), InputError);
}

}  // namespace
}  // namespace halftone::test
