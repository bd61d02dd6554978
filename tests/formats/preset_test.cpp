// The presets against the tables of formats-and-hf-export.md, 1.1 to 1.5.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/core/temporary_folder.h"
#include "tests/formats/quantizers.h"

namespace halftone::test {
namespace {

constexpr const char* kDisabled[] = {"*block_sparse_moe.gate*",
                                     "*linear_attn.conv1d*",
                                     "*linear_attn.in_proj_a*",
                                     "*linear_attn.in_proj_b*",
                                     "*lm_head*",
                                     "*mixer.conv1d*",
                                     "*mlp.gate.*",
                                     "*mlp.shared_expert_gate.*",
                                     "*output_layer*",
                                     "*proj_out.*",
                                     "*router*",
                                     "mtp.*",
                                     "output.*",
                                     "*embed_vision*",
                                     "*vision_tower*",
                                     "*visual*",
                                     "*vision_model*",
                                     "*multi_modal_projector*"};
constexpr const char* kDisabledClasses[] = {"nn.BatchNorm1d", "nn.BatchNorm2d", "nn.BatchNorm3d",
                                            "nn.LeakyReLU", "nn.Embedding"};

Quantizer expected(const NumberFormat& bits) {
  Quantizer quantizer;
  quantizer.enable = true;
  quantizer.num_bits = bits;
  return quantizer;
}

TEST(Presets, Names) {
  std::vector<std::string> names;
  std::vector<std::string> official;
  for (const Recipe& preset : all_presets("ptq")) {
    names.push_back(preset.name);
    official.push_back(preset.preset);
    EXPECT_FALSE(preset.description.empty());
    EXPECT_EQ(load_preset(preset.name, "ptq").name, preset.name);
    EXPECT_EQ(load_preset(preset.preset, "ptq").name, preset.name);
  }
  EXPECT_THAT(names, testing::ElementsAre("fp8", "int8_wo", "nvfp4"));
  EXPECT_THAT(official, testing::ElementsAre("fp8", "int8_weight_only", "nvfp4"));
  std::vector<std::string> caches;
  for (const Recipe& preset : all_presets("kv_cache")) caches.push_back(preset.name);
  EXPECT_THAT(caches, testing::ElementsAre("fp8", "fp8_cast"));
}

TEST(Presets, EverythingOffThenTheFormatThenTheDisabledList) {
  for (const Recipe& preset : all_presets("ptq")) {
    SCOPED_TRACE(preset.name);
    const size_t disabled = std::size(kDisabled) + std::size(kDisabledClasses);
    ASSERT_GT(preset.rules.size(), disabled + 1);
    EXPECT_EQ(preset.rules[0].pattern, "*");
    EXPECT_EQ(preset.rules[0].enable, false);
    const size_t formats = preset.rules.size() - disabled;
    for (size_t i = 1; i < formats; ++i) EXPECT_TRUE(preset.rules[i].stages.has_value());
    for (size_t i = 0; i < disabled; ++i) {
      const QuantizerRule& rule = preset.rules[formats + i];
      const bool named = i < std::size(kDisabled);
      EXPECT_EQ(rule.pattern, named ? kDisabled[i] : "*");
      EXPECT_EQ(rule.parent_class, named ? "" : kDisabledClasses[i - std::size(kDisabled)]);
      EXPECT_EQ(rule.enable, false);
      EXPECT_FALSE(rule.stages.has_value());
    }
  }
}

TEST(Presets, Quantizers) {
  const std::string module = "model.layers.0.mlp.gate_proj";
  const LinearQuantizers fp8 = load_preset("fp8", "ptq").linear(module);
  EXPECT_EQ(fp8.weight.only(), expected(kE4M3));
  EXPECT_EQ(fp8.input.only(), expected(kE4M3));

  Quantizer nvfp4 = expected(kE2M1);
  nvfp4.block_sizes = BlockSizes{16, 0, true, kE4M3};
  const LinearQuantizers four = load_preset("nvfp4", "ptq").linear(module);
  EXPECT_EQ(four.weight.only(), nvfp4);
  EXPECT_EQ(four.input.only(), nvfp4);

  Quantizer int8 = expected(kInt8);
  int8.axis = 0;
  const LinearQuantizers eight = load_preset("int8_weight_only", "ptq").linear(module);
  EXPECT_EQ(eight.weight.only(), int8);
  EXPECT_FALSE(eight.input.enabled());

  for (const char* name : {"lm_head", "model.layers.0.mlp.gate", "model.vision_tower.q",
                           "model.layers.3.block_sparse_moe.gate", "mtp.fc"}) {
    EXPECT_FALSE(load_preset("fp8", "ptq").linear(name).weight.enabled()) << name;
  }
  EXPECT_TRUE(load_preset("fp8", "ptq").linear("model.mtp.fc").weight.enabled());
}

TEST(Presets, KvCacheRulesGoBehindAllOthers) {
  Recipe recipe = load_preset("nvfp4", "ptq");
  const size_t rules = recipe.rules.size();
  EXPECT_FALSE(recipe.kv("a.self_attn", 'k').enabled());
  add_kv_cache(recipe, "none");
  EXPECT_EQ(recipe.rules.size(), rules);
  add_kv_cache(recipe, "fp8");
  ASSERT_EQ(recipe.rules.size(), rules + 1);
  EXPECT_EQ(recipe.rules.back().pattern, "*[kv]_bmm_quantizer");
  EXPECT_EQ(recipe.kv("a.self_attn", 'v').only(), expected(kE4M3));
  EXPECT_FALSE(recipe.resolve("a.q_bmm_quantizer", "attention").enabled());
  add_kv_cache(recipe, "fp8_cast");
  Quantizer cast = expected(kE4M3);
  cast.use_constant_amax = true;
  EXPECT_EQ(recipe.kv("a.self_attn", 'k').only(), cast);
}

}  // namespace
}  // namespace halftone::test
