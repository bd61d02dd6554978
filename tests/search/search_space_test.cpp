#include "search/search_space.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calibrate/target_plan.h"
#include "core/error.h"
#include "model/family.h"
#include "search/candidate_rules.h"
#include "search/decision.h"

namespace halftone::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class SpaceTest : public testing::Test {
 protected:
  // A model of tests/data/archs.
  static std::unique_ptr<Model> model_of(const std::string& name) {
    return make_model(Checkpoint(fs::path(HALFTONE_TEST_DATA) / "archs" / name));
  }

  static SearchSpace space_of(const Model& model, std::vector<std::string> formats,
                              const std::function<void(SearchOptions&)>& change = {}) {
    SearchOptions options;
    options.formats = std::move(formats);
    if (change) change(options);
    return make_search_space(model, options);
  }

  static std::vector<std::string> names(const SearchSpace& space, size_t stage) {
    std::vector<std::string> names;
    for (const LinearGroup& group : space.groups) {
      if (group.stage == stage) names.push_back(group.name);
    }
    return names;
  }

  static std::string refusal(const std::function<void()>& body) {
    try {
      body();
    } catch (const UsageError& error) {
      return error.what();
    }
    return "nothing was refused";
  }
};

TEST_F(SpaceTest, LinearsThatEnginesMergeAndExpertsDecideTogether) {
  const auto llama = model_of("llama-3.1");
  const SearchSpace space = space_of(*llama, {"fp8", "none"});
  const std::string layer = "model.layers.0.";
  EXPECT_THAT(names(space, 1),
              ElementsAre(layer + "self_attn.q_proj,k_proj,v_proj", layer + "self_attn.o_proj",
                          layer + "mlp.gate_proj,up_proj", layer + "mlp.down_proj"));
  const auto mixtral = model_of("mixtral-8x7b");
  const SearchSpace experts = space_of(*mixtral, {"fp8"});
  EXPECT_THAT(names(experts, 1),
              ElementsAre(layer + "self_attn.q_proj,k_proj,v_proj", layer + "self_attn.o_proj",
                          layer + "block_sparse_moe.experts"));
  const auto deepseek = model_of("deepseek-v3");
  const SearchSpace latent = space_of(*deepseek, {"fp8"});
  EXPECT_EQ(names(latent, 1).front(), layer + "self_attn.q_a_proj,kv_a_proj_with_mqa");
}

TEST_F(SpaceTest, CandidatesStandInTheOrderOfTheirBits) {
  const auto model = model_of("llama-3.1");
  const SearchSpace space =
      space_of(*model, {"none", "fp8", "nvfp4", "int8_wo"}, [](auto& options) {
        options.disabled = {"lm_head"};
        options.restrictions = {{"*o_proj", {"fp8"}}};
      });
  std::vector<std::pair<std::string, double>> found;
  for (const Candidate& one : space.candidates) found.emplace_back(one.name, one.bits);
  const std::vector<std::pair<std::string, double>> expected{
      {"nvfp4", 4.5}, {"fp8", 8.0}, {"int8_wo", 8.0}, {"none", 16.0}};
  EXPECT_EQ(found, expected);
  for (const LinearGroup& group : space.groups) {
    if (group.name == "lm_head") {
      EXPECT_THAT(group.candidates, ElementsAre(3));
    } else if (group.name.ends_with("o_proj")) {
      EXPECT_THAT(group.candidates, ElementsAre(1));
    } else {
      EXPECT_THAT(group.candidates, ElementsAre(0, 1, 2, 3));
    }
  }
}

TEST_F(SpaceTest, BitsOfFormatsAreModelOptimizers) {
  const std::vector<std::pair<const char*, double>> expected{
      {"fp8", 8},           {"int8_sq", 8},     {"int4_awq", 4},      {"nvfp4", 4.5},
      {"w4a16_nvfp4", 4.5}, {"w4a8_awq", 4},    {"mxfp4", 4},         {"mxfp8", 8},
      {"nvfp4_mse", 4},     {"nvfp4_awq", 4.5}, {"w4a8_nvfp4_fp8", 4}};
  for (const auto& [name, bits] : expected) {
    EXPECT_EQ(effective_bits(load_preset(name, "ptq").linear("model.layers.0.mlp.up_proj")), bits)
        << name;
  }
}

TEST_F(SpaceTest, ARecipeGivesEveryGroupItsFormat) {
  const auto model = model_of("qwen2-moe");
  const SearchSpace space = space_of(*model, {"int8_wo", "fp8", "none"});
  std::vector<size_t> chosen;
  for (size_t g = 0; g < space.groups.size(); ++g) {
    const auto& able = space.groups[g].candidates;
    chosen.push_back(able[g % able.size()]);
  }
  const TargetPlan plan = plan_target(*model, mixed_recipe(*model, space, chosen, "mixed", "fp8"));
  for (size_t g = 0; g < space.groups.size(); ++g) {
    for (const size_t i : space.groups[g].linears) {
      const LinearFormat& format = plan.stages[space.groups[g].stage].linears[i];
      const std::string& wanted = space.candidates[chosen[g]].name;
      EXPECT_EQ(format.quantized() ? format_name(format) : "none", wanted) << space.groups[g].name;
    }
  }
  EXPECT_EQ(plan.stages[1].kv.front(), KvFormat::kFp8);
}

TEST_F(SpaceTest, AlgorithmsOfOneFormatMustLeaveTheOthersAlone) {
  const auto model = model_of("llama-3.1");
  const SearchSpace apart = space_of(*model, {"int8_sq", "fp8"});
  std::vector<size_t> chosen = everywhere(apart, 0);
  chosen.front() = 1;
  EXPECT_EQ(mixed_recipe(*model, apart, chosen, "m", "none").algorithms.front().method,
            "smoothquant");
  const SearchSpace clash = space_of(*model, {"int8_sq", "int8"});
  chosen = everywhere(clash, 0);
  chosen.front() = 1;
  EXPECT_THAT(refusal([&] { mixed_recipe(*model, clash, chosen, "m", "none"); }),
              HasSubstr("cannot be mixed"));
}

TEST_F(SpaceTest, BudgetsCountUnquantizedLinearsAndNotExcludedOnes) {
  const auto model = model_of("llama-3.1");
  const SearchSpace all = space_of(*model, {"int8_wo", "fp8"});
  EXPECT_EQ(bits_range(all).least, 8.0);
  EXPECT_EQ(bits_range(all).most, 8.0);
  const SearchSpace kept =
      space_of(*model, {"fp8"}, [](SearchOptions& options) { options.disabled = {"lm_head"}; });
  const LinearGroup& head = kept.groups.back();
  EXPECT_NEAR(bits_range(kept).least, 8.0 + 8.0 * static_cast<double>(head.weights) / kept.counted,
              1e-6);
  const SearchSpace apart = space_of(*model, {"fp8"}, [](SearchOptions& options) {
    options.disabled = {"lm_head"};
    options.uncounted = {"lm_head"};
  });
  EXPECT_NEAR(bits_range(apart).least, 8.0, 1e-9);
  EXPECT_THAT(refusal([&] { check_budgets(kept, {8.0}); }), HasSubstr("out of reach"));
}

TEST_F(SpaceTest, MoreBitsAreNeverWorse) {
  const std::vector<std::vector<double>> fixed = monotonic({{3.0, 4.0, 0.0}, {1.0, 0.5, 0.0}});
  EXPECT_THAT(fixed[0], ElementsAre(3.0, 3.0, 0.0));
  EXPECT_THAT(fixed[1], ElementsAre(1.0, 0.5, 0.0));
}

}  // namespace
}  // namespace halftone::test
