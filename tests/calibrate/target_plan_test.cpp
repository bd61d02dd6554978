#include "calibrate/target_plan.h"

#include <gtest/gtest.h>

#include "core/log.h"
#include "formats/codecs.h"
#include "tests/core/temporary_folder.h"
#include "tests/formats/quantizers.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

Recipe preset(const std::string& name, const std::string& kv, const std::string& more = "") {
  Recipe recipe = load_preset(name, "ptq");
  add_kv_cache(recipe, kv);
  if (!more.empty()) {
    const Recipe extra = recipe_of(more);
    recipe.rules.insert(recipe.rules.end(), extra.rules.begin(), extra.rules.end());
  }
  return recipe;
}

void expect_refused(const Recipe& recipe, const std::string& part, const Json& config) {
  expect_error<UsageError>([&] { plan_target(*tiny_model(config), recipe); }, part);
}

TEST(TargetPlan, OfAPreset) {
  const auto model = tiny_model(tiny_config());
  const TargetPlan plan = plan_target(*model, preset("nvfp4", "fp8"));
  ASSERT_EQ(plan.stages.size(), 4u);
  ASSERT_EQ(plan.stages[1].linears.size(), 7u);
  for (const LinearFormat& format : plan.stages[1].linears) {
    EXPECT_EQ(format.codec->name(), make_nvfp4_codec({})->name());
    EXPECT_EQ(format.input.kind, InputKind::kNvfp4);
    EXPECT_EQ(format.pre_quant_scale, PreQuantScale::kNone);
  }
  ASSERT_EQ(plan.stages[3].linears.size(), 1u);
  EXPECT_FALSE(plan.stages[3].linears[0].quantized()) << "the head stays";
  EXPECT_EQ(plan.stages[2].kv, std::vector<KvFormat>{KvFormat::kFp8});
  EXPECT_TRUE(plan.stages[1].needs_inputs() && plan.stages[1].needs_key_value());
  EXPECT_FALSE(plan.stages[0].needs_inputs() || plan.stages[3].needs_inputs());
  const TargetPlan weights = plan_target(*model, preset("int8_wo", "fp8_cast"));
  EXPECT_FALSE(weights.stages[1].needs_inputs() || weights.stages[1].needs_key_value());
}

TEST(TargetPlan, RefusesWhatCannotWork) {
  const Json config = tiny_config();
  expect_refused(preset("fp8", "none", "  - {quantizer_name: '*', enable: false}\n"),
                 "quantizes no linear of this model", config);
  expect_refused(preset("fp8", "fp8", "  - {quantizer_name: '*weight_quantizer', enable: false}\n"),
                 "quantizes no linear of this model", config);
  expect_refused(
      preset("fp8", "none", "  - {quantizer_name: '*k_proj*', enable: false}\n"),
      "'model.layers.0.self_attn.q_proj' and 'model.layers.0.self_attn.k_proj' different", config);
  expect_refused(preset("fp8", "fp8", "  - {quantizer_name: '*v_bmm*', enable: false}\n"),
                 "keys and values of 'model.layers.0.self_attn' different formats", config);
  expect_refused(preset("fp8", "fp8", "  - {quantizer_name: '*.1.*_bmm*', enable: false}\n"),
                 "'model.layers.0.self_attn' and 'model.layers.1.self_attn' different formats",
                 config);
  expect_refused(preset("fp8", "none", "  - {quantizer_name: '*up_proj.w*', cfg: {num_bits: 4}}\n"),
                 "'model.layers.0.mlp.up_proj' weights with inputs of kind fp8, a combination",
                 config);
  Json tied = config;
  tied["tie_word_embeddings"] = true;
  const std::string head = "  - {quantizer_name: 'lm_head.*', cfg: {num_bits: e4m3}}\n";
  expect_refused(preset("fp8", "none", head), "'lm_head', whose weight is tied to", tied);
  const TargetPlan with_head = plan_target(*tiny_model(config), preset("fp8", "none", head));
  EXPECT_EQ(with_head.stages[3].linears[0].codec->name(), "fp8");
}

TEST(TargetPlan, ShapesThatDoNotDivide) {
  Json config = tiny_config();
  config["intermediate_size"] = 40;
  expect_error<InputError>([&] { plan_target(*tiny_model(config), preset("nvfp4", "none")); },
                           "'model.layers.0.mlp.down_proj.weight' is [32, 40]");
  plan_target(*tiny_model(config), preset("fp8", "none"));
}

TEST(TargetPlan, ACacheAlone) {
  const Recipe recipe = recipe_of("  - {quantizer_name: '*[kv]_bmm*', cfg: {num_bits: e4m3}}\n");
  const TargetPlan plan = plan_target(*tiny_model(tiny_config()), recipe);
  EXPECT_TRUE(plan.stages[1].needs_key_value());
  EXPECT_FALSE(plan.stages[1].needs_inputs());
}

TEST(TargetPlan, WhereSmoothingScalesGo) {
  const auto model = tiny_model(tiny_config());
  const auto places = [&](const std::string& format) {
    std::string text;
    for (const LinearFormat& linear :
         plan_target(*model, preset(format, "none")).stages[1].linears) {
      text += "-snp"[static_cast<size_t>(linear.pre_quant_scale)];
    }
    return text;
  };
  // q, k, v, o, gate, up, down; fewer key heads than query heads.
  EXPECT_EQ(places("nvfp4_awq"), "nnnsnnp");
  EXPECT_EQ(places("nvfp4_svdquant"), "sssssss");
  EXPECT_EQ(places("int8_sq"), "sssssss");
  EXPECT_EQ(places("nvfp4"), "-------");
  Json every_head = tiny_config();
  every_head["num_key_value_heads"] = 4;
  const TargetPlan plan = plan_target(*tiny_model(every_head), preset("nvfp4_awq", "none"));
  EXPECT_EQ(plan.stages[1].linears[3].pre_quant_scale, PreQuantScale::kInPrevious);
}

TEST(TargetPlan, BranchesAndTheirRank) {
  const auto model = tiny_model(tiny_config());
  Recipe recipe = preset("nvfp4_svdquant", "none");
  EXPECT_EQ(plan_target(*model, recipe).stages[1].linears[0].low_rank, 32);
  recipe.algorithms[0].options = {{"lowrank", 4}, {"skip_layers", {"*.1.*"}}};
  const TargetPlan plan = plan_target(*model, recipe);
  EXPECT_EQ(plan.stages[1].linears[0].low_rank, 4);
  EXPECT_EQ(plan.stages[2].linears[0].low_rank, 0);
  EXPECT_EQ(plan.stages[2].linears[0].smoothing, Smoothing::kNone);
  EXPECT_TRUE(plan.stages[2].linears[0].quantized());
}

TEST(TargetPlan, AlgorithmsThatDoNotGoWithTheFormatAreRefused) {
  Recipe recipe = preset("fp8", "none");
  for (const char* method : {"awq_lite", "smoothquant", "gptq", "svdquant", "local_hessian"}) {
    recipe.algorithms = {{method, Json::object(), 0}};
    expect_refused(recipe, concat("uses the algorithm ", method), tiny_config());
  }
  recipe.algorithms = {{"mse", Json::object(), 0}};
  plan_target(*tiny_model(tiny_config()), recipe);
}

TEST(TargetPlan, WithoutAnAlgorithmInputsAreScaledAtRunTime) {
  const auto model = tiny_model(tiny_config());
  Recipe recipe = preset("fp8", "none");
  recipe.algorithms.clear();
  for (QuantizerRule& rule : recipe.rules) {
    if (rule.stages && rule.pattern == "*weight_quantizer") {
      rule.stages->front().block_sizes = BlockSizes{32, 0, true, kE8M0};
      rule.stages->front().num_bits = kE2M1;
    }
  }
  const TargetPlan plan = plan_target(*tiny_model([] {
    Json config = tiny_config();
    config["intermediate_size"] = 64;
    return config;
  }()),
                                      recipe);
  EXPECT_EQ(plan.stages[1].linears[0].input.kind, InputKind::kFp8Dynamic);
  EXPECT_FALSE(plan.stages[1].needs_inputs());
  Recipe nvfp4 = preset("nvfp4", "none");
  nvfp4.algorithms.clear();
  expect_refused(nvfp4, "needs calibration: set algorithm: max", tiny_config());
}

TEST(TargetPlan, ARotatedCacheNeedsAPowerOfTwo) {
  Json config = tiny_config();
  plan_target(*tiny_model(config), preset("fp8", "nvfp4_rotate"));
  config["hidden_size"] = 48;
  expect_error<InputError>([&] { plan_target(*tiny_model(config), preset("fp8", "nvfp4_rotate")); },
                           "'model.layers.0.self_attn' has keys of 12 channels");
}

}  // namespace
}  // namespace halftone::test
