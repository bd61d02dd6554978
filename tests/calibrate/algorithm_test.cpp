#include "calibrate/algorithm.h"

#include "core/error.h"
#include "dist/reductions.h"
#include "tests/calibrate/stage_case.h"
#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

class MaxTest : public CollectiveTest {
 protected:
  MaxTest() : model_(tiny_model(tiny_config())), stage_(model_->stages()[1]), statistics_(stage_) {
    for (size_t i = 0; i < stage_.linears.size(); ++i) {
      statistics_.input_amax[i] = 10.0f + static_cast<float>(i);
    }
  }

  std::vector<LinearSolution> solve(const Recipe& recipe) {
    const TargetPlan plan = plan_target(*model_, recipe);
    Choices choices;
    const StageRun run{stage_,      plan.stages[1], plan.recipe,    statistics_, weight_amax_, {},
                       DType::kF16, DType::kBF16,   Numerics::kCpu, *ranks_,     pool_};
    return solve_stage(run, nullptr, choices).linears;
  }

  std::unique_ptr<Model> model_;
  StageSpec stage_;
  StageStatistics statistics_;
  ThreadPool pool_{1};
  // q, k, v, o, gate, up, down
  std::vector<float> weight_amax_{1, 3, 2, 0.5, 4, 5, 6};
};

std::vector<float> weight_amax(const std::vector<LinearSolution>& linears) {
  std::vector<float> values;
  for (const LinearSolution& linear : linears) values.push_back(linear.weight_amax);
  return values;
}

TEST_F(MaxTest, Nvfp4UnifiesFusedGroups) {
  const auto linears = solve(load_preset("nvfp4", "ptq"));
  EXPECT_EQ(weight_amax(linears), (std::vector<float>{3, 3, 3, 0.5, 5, 5, 6}));
  // The inputs of a group are one tensor; were they not, the largest would count.
  const std::vector<float> inputs{12, 12, 12, 13, 15, 15, 16};
  for (size_t i = 0; i < linears.size(); ++i) {
    EXPECT_EQ(linears[i].input_amax, inputs[i]);
    EXPECT_EQ(linears[i].input_dtype, DType::kBF16) << "the compute dtype";
    EXPECT_TRUE(linears[i].edits.empty());
    EXPECT_EQ(linears[i].block_amax.kind, BlockAmaxRule::Kind::kOwn);
  }
}

TEST_F(MaxTest, Fp8KeepsThemApart) {
  EXPECT_EQ(weight_amax(solve(load_preset("fp8", "ptq"))), weight_amax_);
}

TEST_F(MaxTest, WeightOnlyNeedsNoInput) {
  statistics_ = StageStatistics(stage_);
  for (const LinearSolution& linear : solve(load_preset("int8_wo", "ptq"))) {
    EXPECT_FALSE(linear.input_amax.has_value());
  }
}

TEST_F(MaxTest, LinearsThatStayAreLeftAlone) {
  Recipe recipe = load_preset("nvfp4", "ptq");
  recipe.rules.push_back({"*down_proj*", "", {}, false, "test", 1, false});
  statistics_.input_amax[6] = MaxBucket::kAbsent;
  const auto linears = solve(recipe);
  EXPECT_EQ(linears[6].weight_amax, 0.0f);
  EXPECT_FALSE(linears[6].input_amax.has_value());
}

TEST_F(MaxTest, AbsentStatisticsAreAnError) {
  statistics_.input_amax[4] = MaxBucket::kAbsent;
  expect_error<InputError>([&] { solve(load_preset("fp8", "ptq")); },
                           "'model.layers.0.mlp.gate_proj' saw no token in calibration");
  statistics_.input_amax[6] = 0.0f;
  statistics_.input_amax[4] = 3.0f;
  EXPECT_EQ(solve(load_preset("fp8", "ptq"))[6].input_amax, 0.0f) << "zero was seen";
}

TEST_F(MaxTest, ConstantsNeedNoStatistics) {
  Recipe recipe = load_preset("nvfp4", "ptq");
  for (QuantizerRule& rule : recipe.rules) {
    if (rule.pattern == "*input_quantizer") rule.stages->front().constant_amax = 2688.0;
  }
  statistics_ = StageStatistics(stage_);
  for (const LinearSolution& linear : solve(recipe)) {
    EXPECT_EQ(linear.input_amax, 2688.0f);
    EXPECT_EQ(linear.input_dtype, DType::kF32);
  }
}

TEST(Algorithms, Registry) {
  std::set<std::string> names;
  for (const Algorithm& algorithm : algorithms()) {
    EXPECT_TRUE(names.insert(algorithm.name).second) << algorithm.name;
    EXPECT_EQ(algorithm_named(algorithm.name).name, algorithm.name);
    EXPECT_NE(algorithm.apply, nullptr) << algorithm.name;
    EXPECT_EQ(algorithm.choose != nullptr, algorithm.needs_inputs) << algorithm.name;
    EXPECT_EQ(algorithm.fits == nullptr, algorithm.fits_text.empty()) << algorithm.name;
  }
  EXPECT_EQ(names,
            (std::set<std::string>{"awq_clip", "awq_full", "awq_lite", "gptq", "local_hessian",
                                   "max", "mse", "nvfp4_act_headroom", "smoothquant", "svdquant"}));
  expect_error<UsageError>([] { algorithm_named("mx"); },
                           "unknown algorithm 'mx' (did you mean 'max'?)");
}

// Every algorithm leaves what it is not made for as max calibration does.
TEST_F(MaxTest, AlgorithmsLeaveOtherFormatsAlone) {
  const at::Tensor w = example_w(4, 128);
  const at::Tensor x = example_x(8, 128);
  const std::vector<std::pair<std::shared_ptr<const Codec>, InputKind>> formats{
      {make_fp8_codec(), InputKind::kFp8},
      {make_int8_codec(), InputKind::kInt8},
      {make_int4_codec(128, true), InputKind::kFp8},
      {make_nvfp4_codec({}), InputKind::kNvfp4},
      {make_mxfp8_codec(), InputKind::kMxfp8}};
  for (const Algorithm& algorithm : algorithms()) {
    for (const auto& [codec, input] : formats) {
      SCOPED_TRACE(algorithm.name + " on " + codec->name());
      StageCase plain = one_linear(w, x, codec, input);
      StageCase refined = plain;
      refined.algorithm(algorithm.name);
      if (algorithm.fits == nullptr || algorithm.fits(plain.plan.linears[0])) continue;
      const PackedLinear a = plain.packed(plain.solve(*ranks_), 0);
      const PackedLinear b = refined.packed(refined.solve(*ranks_), 0);
      EXPECT_EQ(a.size(), b.size());
      for (const auto& [suffix, tensor] : a) EXPECT_TRUE(at::equal(tensor, b.at(suffix))) << suffix;
    }
  }
}

}  // namespace
}  // namespace halftone::test
