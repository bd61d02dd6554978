#include "calibrate/algorithm.h"

#include <gtest/gtest.h>

#include "dist/reductions.h"
#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

class MaxTest : public testing::Test {
 protected:
  MaxTest() : model_(tiny_model(tiny_config())), stage_(model_->stages()[1]), statistics_(stage_) {
    for (size_t i = 0; i < stage_.linears.size(); ++i) {
      statistics_.input_amax[i] = 10.0f + static_cast<float>(i);
    }
  }

  std::vector<LinearScales> solve(const Recipe& recipe) {
    const TargetPlan plan = plan_target(*model_, recipe);
    return algorithm_named("max").solve(
        {stage_, plan.stages[1], statistics_, weight_amax_, DType::kBF16});
  }

  std::unique_ptr<Model> model_;
  StageSpec stage_;
  StageStatistics statistics_;
  // q, k, v, o, gate, up, down
  std::vector<float> weight_amax_{1, 3, 2, 0.5, 4, 5, 6};
};

std::vector<float> weight_amax(const std::vector<LinearScales>& scales) {
  std::vector<float> values;
  for (const LinearScales& scale : scales) values.push_back(scale.weight_amax);
  return values;
}

TEST_F(MaxTest, Nvfp4UnifiesFusedGroups) {
  const auto scales = solve(load_preset("nvfp4", "ptq"));
  EXPECT_EQ(weight_amax(scales), (std::vector<float>{3, 3, 3, 0.5, 5, 5, 6}));
  for (size_t i = 0; i < scales.size(); ++i) {
    EXPECT_EQ(scales[i].input_amax, 10.0f + static_cast<float>(i));
    EXPECT_EQ(scales[i].input_dtype, DType::kBF16);
  }
}

TEST_F(MaxTest, Fp8KeepsThemApart) {
  EXPECT_EQ(weight_amax(solve(load_preset("fp8", "ptq"))), weight_amax_);
}

TEST_F(MaxTest, WeightOnlyNeedsNoInput) {
  statistics_ = StageStatistics(stage_);
  const auto scales = solve(load_preset("int8_wo", "ptq"));
  for (const LinearScales& scale : scales) EXPECT_FALSE(scale.input_amax.has_value());
}

TEST_F(MaxTest, LinearsThatStayAreLeftAlone) {
  Recipe recipe = load_preset("nvfp4", "ptq");
  recipe.rules.push_back({"*down_proj*", "", {}, false});
  statistics_.input_amax[6] = MaxBucket::kAbsent;
  const auto scales = solve(recipe);
  EXPECT_EQ(scales[6].weight_amax, 0.0f);
  EXPECT_FALSE(scales[6].input_amax.has_value());
}

TEST_F(MaxTest, AbsentStatisticsAreAnError) {
  statistics_.input_amax[4] = MaxBucket::kAbsent;
  expect_error<InputError>([&] { solve(load_preset("fp8", "ptq")); },
                           "'model.layers.0.mlp.gate_proj' saw no token in calibration");
  statistics_.input_amax[4] = 0.0f;
  EXPECT_EQ(solve(load_preset("fp8", "ptq"))[4].input_amax, 0.0f) << "zero was seen";
}

TEST(Algorithms, Registry) {
  ASSERT_EQ(algorithms().size(), 1u);
  EXPECT_EQ(algorithm_named("max").name, "max");
  expect_error<UsageError>([] { algorithm_named("mx"); },
                           "unknown algorithm 'mx' (did you mean 'max'?)");
}

}  // namespace
}  // namespace halftone::test
