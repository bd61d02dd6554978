#include "formats/recipe.h"

#include <gtest/gtest.h>

#include "tests/core/temporary_folder.h"
#include "tests/formats/quantizers.h"

namespace halftone::test {
namespace {

TEST(Glob, WholeNameAcrossDots) {
  EXPECT_TRUE(glob_matches("*", ""));
  EXPECT_TRUE(glob_matches("*lm_head*", "lm_head.weight_quantizer"));
  EXPECT_TRUE(glob_matches("*mlp*weight_quantizer", "model.layers.0.mlp.up_proj.weight_quantizer"));
  EXPECT_FALSE(glob_matches("mlp*", "model.mlp.x")) << "from the first character";
  EXPECT_FALSE(glob_matches("*mlp", "model.mlp.x")) << "to the last";
  EXPECT_FALSE(glob_matches("*LM_head*", "lm_head")) << "case matters";
  EXPECT_TRUE(glob_matches("layer.?.x", "layer.3.x"));
  EXPECT_FALSE(glob_matches("layer.?.x", "layer.13.x"));
  EXPECT_TRUE(glob_matches("*[kv]_bmm_quantizer", "a.k_bmm_quantizer"));
  EXPECT_FALSE(glob_matches("*[kv]_bmm_quantizer", "a.q_bmm_quantizer"));
  EXPECT_TRUE(glob_matches("*[!kv]_bmm_quantizer", "a.q_bmm_quantizer"));
  EXPECT_FALSE(glob_matches("a.b", "axb")) << "a dot is a dot";
  EXPECT_TRUE(glob_matches("*", ".hidden"));
}

TEST(Rules, LaterOnesWin) {
  const Recipe recipe = recipe_of(R"(
  - {quantizer_name: '*', enable: false}
  - {quantizer_name: '*weight_quantizer', cfg: {num_bits: e4m3}}
  - {quantizer_name: '*down*', enable: false}
  - {quantizer_name: '*layers.1.*down*', enable: true}
)");
  EXPECT_TRUE(recipe.linear("layers.0.up").weight.enabled());
  EXPECT_FALSE(recipe.linear("layers.0.up").input.enabled());
  EXPECT_FALSE(recipe.linear("layers.0.down").weight.enabled());
  EXPECT_TRUE(recipe.linear("layers.1.down").weight.enabled());
  EXPECT_EQ(recipe.linear("layers.1.down").weight.only().num_bits, kE4M3)
      << "a switch keeps the attributes";
}

TEST(Rules, CfgReplacesEveryAttribute) {
  const Recipe recipe = recipe_of(R"(
  - {quantizer_name: '*', cfg: {num_bits: e4m3, axis: 0, type: dynamic, constant_amax: 2}}
  - {quantizer_name: '*x*', cfg: {num_bits: 4}}
  - {quantizer_name: '*y*', cfg: {num_bits: 4}, enable: false}
)");
  Quantizer four;
  four.enable = true;
  four.num_bits = {0, 4};
  EXPECT_EQ(recipe.resolve("x.weight_quantizer", "").only(), four);
  four.enable = false;
  EXPECT_EQ(recipe.resolve("y.weight_quantizer", "").only(), four);
  const Quantizer other = recipe.resolve("z", "").only();
  EXPECT_TRUE(other.enable && other.dynamic && other.axis == 0 && other.constant_amax == 2.0);
}

TEST(Rules, NothingIsOnWithoutARule) {
  const Recipe recipe = recipe_of("  - {quantizer_name: 'a', enable: true}\n");
  EXPECT_FALSE(recipe.resolve("b", "").enabled());
  EXPECT_EQ(recipe.resolve("b", "").stages, std::vector<Quantizer>{Quantizer{}});
}

TEST(Rules, ParentClass) {
  const Recipe recipe = recipe_of(R"(
  - {quantizer_name: '*', cfg: {num_bits: 8}}
  - {quantizer_name: '*', parent_class: nn.Embedding, enable: false}
)");
  EXPECT_TRUE(recipe.resolve("x", "nn.Linear").enabled());
  EXPECT_FALSE(recipe.resolve("x", "nn.Embedding").enabled());
}

TEST(Rules, SequencesAndBack) {
  const Recipe recipe = recipe_of(R"(
  - quantizer_name: '*'
    cfg: [{num_bits: 4, block_sizes: {-1: 128}}, {num_bits: e4m3}]
  - {quantizer_name: 'off*', enable: false}
  - {quantizer_name: 'one*', cfg: {num_bits: 8, axis: 0}}
)");
  const QuantizerSequence two = recipe.resolve("two", "");
  ASSERT_EQ(two.stages.size(), 2u);
  EXPECT_EQ(two.stages[0].block_sizes->last, 128);
  EXPECT_EQ(two.stages[1].num_bits, kE4M3);
  EXPECT_FALSE(recipe.resolve("off", "").enabled()) << "a switch is for all stages";
  EXPECT_EQ(recipe.resolve("one", "").stages.size(), 1u);
}

TEST(Rules, KeysAndValuesOfAttention) {
  const Recipe recipe =
      recipe_of("  - {quantizer_name: 'a.k_bmm_quantizer', cfg: {num_bits: 8}}\n");
  EXPECT_TRUE(recipe.kv("a", 'k').enabled());
  EXPECT_FALSE(recipe.kv("a", 'v').enabled());
}

TEST(Imports, RuleListsAndMappingsWithOverride) {
  TemporaryFolder folder;
  folder.write("off.yaml",
               "- {quantizer_name: '*', enable: false}\n"
               "- {quantizer_name: 'always', enable: true}\n");
  folder.write("one.yml", "{quantizer_name: '*head*', enable: false}\n");
  folder.write("base.yaml", "{num_bits: e2m1, block_sizes: {-1: 16}}\n");
  folder.write("more.yaml", "{enable: true, num_bits: 8, type: dynamic}\n");
  const Recipe recipe = parse_recipe(R"(
imports: {off: off, one: one, base: base.yaml, more: more, fp8: units/fp8}
quantize:
  quant_cfg:
    - $import: off
    - {quantizer_name: 'a*', cfg: {$import: base}}
    - {quantizer_name: 'b*', cfg: {$import: base, block_sizes: null, axis: 1}}
    - {quantizer_name: 'c*', cfg: {$import: [base, more], enable: false}}
    - {quantizer_name: 'd*', cfg: {$import: fp8}}
    - $import: one
)",
                                     "recipe.yaml", folder.path());
  ASSERT_EQ(recipe.rules.size(), 7u);
  EXPECT_EQ(recipe.rules[1].pattern, "always");
  EXPECT_EQ(recipe.rules[6].pattern, "*head*");
  const Quantizer a = recipe.resolve("a", "").only();
  EXPECT_TRUE(a.enable && a.num_bits == kE2M1 && a.block_sizes->last == 16);
  const Quantizer b = recipe.resolve("b", "").only();
  EXPECT_TRUE(b.num_bits == kE2M1 && !b.block_sizes && b.axis == 1);
  const Quantizer c = recipe.resolve("c", "").only();
  EXPECT_TRUE(!c.enable && c.num_bits == kInt8 && c.dynamic && c.block_sizes->last == 16);
  EXPECT_EQ(recipe.resolve("d", "").only().num_bits, kE4M3) << "an embedded import";
  EXPECT_FALSE(recipe.resolve("a_head", "").enabled());
}

TEST(Imports, WholeSectionsWithOverride) {
  TemporaryFolder folder;
  folder.write("base.yaml", "algorithm: max\nquant_cfg: [{quantizer_name: a, enable: true}]\n");
  folder.write("mine.yaml", "imports: {base: base}\nquantize: {$import: base}\n");
  const Recipe mine = load_recipe_file(folder.path() / "mine.yaml");
  EXPECT_EQ(mine.name, "mine");
  EXPECT_EQ(mine.rules.at(0).pattern, "a");
  folder.write("other.yaml",
               "imports: {base: base}\n"
               "quantize: {$import: base, quant_cfg: [{quantizer_name: b, enable: true}]}\n");
  EXPECT_EQ(load_recipe_file(folder.path() / "other.yaml").rules.at(0).pattern, "b");
}

TEST(RecipeJson, ReadsBackAsTheSameRules) {
  Recipe recipe = recipe_of(R"(
  - {quantizer_name: '*', enable: false}
  - {quantizer_name: '*a', cfg: {num_bits: e3m2, axis: -1}, enable: true}
  - {quantizer_name: '*b', parent_class: nn.Linear, cfg: {num_bits: 6, constant_amax: 2.5, type: dynamic}}
  - quantizer_name: '*c'
    cfg:
      - {num_bits: e2m1, block_sizes: {-1: 32, type: dynamic, scale_bits: e8m0}}
      - {num_bits: e4m3, use_constant_amax: true, enable: false}
)");
  recipe.name = "mine";
  recipe.preset = "theirs";
  const Json json = to_json(recipe);
  EXPECT_EQ(json["name"], "mine");
  EXPECT_EQ(json["preset"], "theirs");
  const Json document{
      {"quantize", {{"algorithm", json["algorithm"]}, {"quant_cfg", json["quant_cfg"]}}}};
  const Recipe back = parse_recipe(document.dump(), "json", {});
  ASSERT_EQ(back.rules.size(), recipe.rules.size());
  for (size_t i = 0; i < back.rules.size(); ++i) {
    EXPECT_EQ(back.rules[i].pattern, recipe.rules[i].pattern);
    EXPECT_EQ(back.rules[i].parent_class, recipe.rules[i].parent_class);
    EXPECT_EQ(back.rules[i].stages, recipe.rules[i].stages) << i;
    EXPECT_EQ(back.rules[i].enable, recipe.rules[i].enable);
  }
}

}  // namespace
}  // namespace halftone::test
