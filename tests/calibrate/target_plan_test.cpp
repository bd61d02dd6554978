#include "calibrate/target_plan.h"

#include <gtest/gtest.h>

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
  EXPECT_EQ(plan.stages[1].codecs, std::vector<const Codec*>(7, &nvfp4_codec()));
  EXPECT_EQ(plan.stages[3].codecs, std::vector<const Codec*>(1, nullptr)) << "the head stays";
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
                 "'model.layers.0.self_attn' but not of 'model.layers.1.self_attn'", config);
  expect_refused(preset("fp8", "none", "  - {quantizer_name: '*up_proj.w*', cfg: {num_bits: 4}}\n"),
                 "'model.layers.0.mlp.up_proj' a combination", config);
  Json tied = config;
  tied["tie_word_embeddings"] = true;
  const std::string head = "  - {quantizer_name: 'lm_head.*', cfg: {num_bits: e4m3}}\n";
  expect_refused(preset("fp8", "none", head), "'lm_head', whose weight is tied to", tied);
  EXPECT_EQ(plan_target(*tiny_model(config), preset("fp8", "none", head)).stages[3].codecs[0],
            &fp8_codec());
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

}  // namespace
}  // namespace halftone::test
