#include <gtest/gtest.h>

#include "formats/recipe.h"
#include "tests/core/temporary_folder.h"
#include "tests/formats/expected_quantizers.h"

namespace halftone::test {
namespace {

const std::string kUseList = "quantize:\n  quant_cfg:\n    - $import: x\n";

std::vector<std::string> patterns_of(const Recipe& recipe) {
  std::vector<std::string> patterns;
  for (const QuantizerRule& rule : recipe.rules) patterns.push_back(rule.pattern);
  return patterns;
}

TEST(NestedImports, ListsInASecondDocument) {
  TemporaryFolder folder;
  folder.write("numbers.yaml", "num_bits: 4\nblock_sizes: {-1: 128}\n");
  folder.write("more.yaml",
               "# modelopt-schema: modelopt.torch.quantization.config.QuantizerAttributeConfig\n"
               "imports: {base: numbers, fp8: configs/numerics/fp8}\n$import: [fp8, base]\n"
               "axis: null\nnum_bits: 6\n");
  folder.write("inner.yaml", "- {quantizer_name: inner, enable: true}\n");
  folder.write("rules.yaml",
               "imports: {m: more, inner: inner}\n---\n"
               "- {quantizer_name: first, cfg: {$import: m}}\n- $import: inner\n"
               "- quantizer_name: both\n  cfg: [{$import: m}, {num_bits: 8}]\n");
  folder.write("mine.yaml", "imports:\n  x: rules\n" + kUseList);
  const Recipe recipe = load_recipe_file(folder.path() / "mine.yaml");
  EXPECT_EQ(patterns_of(recipe), (std::vector<std::string>{"first", "inner", "both"}));
  const Quantizer expected = quantizer_with({0, 6}, {128, 0, false, std::nullopt});
  EXPECT_EQ(recipe.resolve("first", "").only(), expected);
  EXPECT_EQ(recipe.resolve("both", "").stages,
            (std::vector<Quantizer>{expected, quantizer_with(kInt8)}));
  EXPECT_EQ(recipe.rules[1].line, 1);
  EXPECT_TRUE(recipe.rules[1].source.ends_with("mine.yaml, import 'rules', import 'inner'"))
      << recipe.rules[1].source;
  EXPECT_FALSE(recipe.rules[1].built_in);
}

TEST(NestedImports, AliasesBelongToTheirFile) {
  TemporaryFolder folder;
  folder.write("a.yaml", "imports: {x: b}\n---\n- $import: x\n");
  folder.write("b.yaml", "- {quantizer_name: from_b, enable: true}\n");
  EXPECT_EQ(parse_recipe("imports: {x: a}\n" + kUseList, "r.yaml", folder.path()).rules[0].pattern,
            "from_b");
  folder.write("c.yaml", "- $import: x\n");
  expect_error<UsageError>(
      [&] { parse_recipe("imports: {x: c}\n" + kUseList, "r.yaml", folder.path()); },
      "r.yaml, import 'c', line 1: no import is called 'x'");
}

TEST(NestedImports, BesideTheImportingFile) {
  TemporaryFolder folder;
  fs::create_directory(folder.path() / "deep");
  folder.write("deep/rules.yaml", "imports: {y: beside}\n---\n- $import: y\n");
  folder.write("deep/beside.yaml", "- {quantizer_name: deep, enable: true}\n");
  const Recipe recipe = parse_recipe("imports: {x: deep/rules}\n" + kUseList, "r", folder.path());
  EXPECT_EQ(recipe.rules.at(0).pattern, "deep");
}

TEST(NestedImports, ModelOptimizersOwnFilesReadUnchanged) {
  const Recipe recipe = parse_recipe(R"(
imports:
  base_disable_all: configs/ptq/units/base_disable_all
  default_disabled_quantizers: configs/ptq/units/default_disabled_quantizers
  nvfp4: configs/numerics/nvfp4
  kv_fp8: configs/ptq/units/kv_fp8
metadata:
  recipe_type: ptq
  description: >-
    folded
    text
quantize:
  algorithm:
    method: max
    layerwise: {enable: false}
  quant_cfg:
    - $import: base_disable_all
    - quantizer_name: '*.experts.*weight_quantizer'
      cfg:
        $import: nvfp4
    - $import: kv_fp8
    - $import: default_disabled_quantizers
)",
                                     "r.yaml", {});
  EXPECT_EQ(recipe.description, "folded text");
  EXPECT_EQ(recipe.linear("a.experts.0.up").weight.only(), nvfp4_quantizer());
  EXPECT_EQ(recipe.kv("a", 'k').only(), quantizer_with(kE4M3));
  EXPECT_EQ(recipe.rules.size(), 26u);
}

TEST(NestedImports, CyclesAndDepth) {
  TemporaryFolder folder;
  folder.write("self.yaml", "imports: {x: self}\n---\n[]\n");
  folder.write("a.yaml", "imports: {x: b}\n---\n[]\n");
  folder.write("b.yaml", "imports:\n  y: ./a.yaml\n---\n[]\n");
  const auto read = [&](const std::string& import) {
    parse_recipe("imports: {x: " + import + "}\n" + kUseList, "r.yaml", folder.path());
  };
  expect_error<UsageError>([&] { read("self"); },
                           "r.yaml, import 'self', line 1: the import 'self' imports itself");
  expect_error<UsageError>([&] { read("a"); },
                           "import 'b', line 2: the import './a.yaml' imports itself");
  folder.write("root.yaml", "imports: {x: root}\n" + kUseList);
  expect_error<UsageError>([&] { load_recipe_file(folder.path() / "root.yaml"); },
                           "line 1: the import 'root' imports itself");
  folder.write("n0.yaml", "[]\n");
  for (int i = 1; i <= 20; ++i) {
    const std::string below = "imports: {x: n" + std::to_string(i - 1) + "}\n---\n[]\n";
    folder.write("n" + std::to_string(i) + ".yaml", below);
  }
  EXPECT_NO_THROW(read("n15"));
  expect_error<UsageError>([&] { read("n16"); }, "line 1: imports are nested deeper than 16 files");
}

TEST(NestedImports, AFileMayBeImportedTwice) {
  TemporaryFolder folder;
  folder.write("one.yaml", "- {quantizer_name: a, enable: true}\n");
  const std::string use = "quantize: {quant_cfg: [{$import: x}, {$import: y}, {$import: x}]}\n";
  const Recipe recipe = parse_recipe("imports: {x: one, y: one}\n" + use, "r", folder.path());
  EXPECT_EQ(recipe.rules.size(), 3u);
}

TEST(OldRules, PatternsToAttributes) {
  const Recipe recipe = parse_recipe(R"(
quantize:
  quant_cfg:
    '*weight_quantizer': {num_bits: [2, 1], block_sizes: {-1: 16, type: dynamic, scale_bits: [4, 3]}, enable: true}
    '*input_quantizer': [{num_bits: 4, block_sizes: {-1: 128}}, {num_bits: e4m3}]
    '*lm_head*': {enable: false}
    '*off*': {num_bits: 4, enable: false}
    nn.Embedding:
      '*': {enable: false}
    default: {enable: false}
    '*last*': {enable: true}
)",
                                     "r.yaml", {});
  EXPECT_EQ(patterns_of(recipe),
            (std::vector<std::string>{"*weight_quantizer", "*input_quantizer", "*lm_head*", "*off*",
                                      "*", "*", "*last*"}));
  EXPECT_EQ(recipe.rules[0].stages->at(0), nvfp4_quantizer());
  EXPECT_EQ(recipe.rules[0].enable, true);
  EXPECT_EQ(recipe.rules[1].stages->size(), 2u);
  EXPECT_FALSE(recipe.rules[2].stages.has_value()) << "only a switch";
  EXPECT_EQ(recipe.rules[3].stages->size(), 1u);
  EXPECT_EQ(recipe.rules[4].parent_class, "nn.Embedding");
  EXPECT_EQ(recipe.rules[5].enable, false);
  EXPECT_EQ(recipe.rules[3].line, 7);
  EXPECT_TRUE(recipe.resolve("last.weight_quantizer", "").enabled());
  EXPECT_FALSE(recipe.resolve("other.weight_quantizer", "").enabled());
}

TEST(OldRules, ErrorsNameTheirLine) {
  const auto read = [](const std::string& rules) {
    parse_recipe("quantize:\n  quant_cfg:\n    " + rules, "r.yaml", {});
  };
  expect_error<UsageError>([&] { read("'*': 3"); }, "r.yaml, line 3: expected a mapping");
  expect_error<UsageError>([&] { read("'*': {}"); }, "r.yaml, line 3: cfg must not be empty");
  expect_error<UsageError>([&] { read("'': {enable: true}"); }, "a pattern must not be empty");
  expect_error<UsageError>([&] { read("nn.Linear: 3"); }, "line 3: expected a mapping of patterns");
  expect_error<UsageError>([&] { read("a: {num_bit: 3}"); }, "line 3: unknown key 'num_bit'");
}

}  // namespace
}  // namespace halftone::test
