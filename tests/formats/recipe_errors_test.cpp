#include <gtest/gtest.h>

#include "formats/recipe.h"
#include "tests/core/temporary_folder.h"

namespace halftone::test {
namespace {

struct Case {
  std::string yaml;
  std::string message;
};

void expect_errors(const std::vector<Case>& cases, const fs::path& directory = {}) {
  for (const Case& one : cases) {
    SCOPED_TRACE(one.yaml);
    expect_error<UsageError>([&] { parse_recipe(one.yaml, "r.yaml", directory); }, one.message);
  }
}

std::string rule(const std::string& text) {
  return "quantize:\n quant_cfg:\n  - " + text;
}
std::string cfg(const std::string& text) {
  return rule("quantizer_name: a\n    cfg: " + text);
}

TEST(RecipeErrors, Document) {
  expect_errors({
      {"", "r.yaml: expected a mapping"},
      {"- a", "r.yaml, line 1: expected a mapping"},
      {"a: [", "r.yaml, line 1: not valid YAML"},
      {"\nquantise: {}", "r.yaml, line 2: unknown key 'quantise' (did you mean 'quantize'?)"},
      {"metadata: {}", "the section 'quantize' is missing"},
      {"quantize: 3", "r.yaml, line 1: expected a mapping"},
      {"quantize: {}", "r.yaml, line 1: quant_cfg is missing"},
      {"quantize:\n  quant_cfg: x", "r.yaml, line 2: quant_cfg must be a list of rules"},
      {"quantize: {quant_cfg: []}\nquantize: {}", "line 2: the key 'quantize' appears twice"},
      {"quantize: {quant_cfg: []}\n[a]: b", "line 2: a key must be plain text"},
      {"metadata: {presett: x}\nquantize: {quant_cfg: []}", "line 1: unknown key 'presett'"},
      {"metadata: {preset: [x]}\nquantize: {quant_cfg: []}", "line 1: expected a name"},
      {"quantize:\n  algorithm: awq\n  quant_cfg: []",
       "line 2: unknown algorithm 'awq'; supported: max, mse"},
      {"a: 1\n---\n[]", "line 1: of two documents the first must hold imports"},
      {"imports: {}\n---\nquantize: {quant_cfg: []}\n---\n[]", "line 5: a third document"},
      {std::string(size_t{2} << 20, ' '), "r.yaml: larger than"},
  });
}

TEST(RecipeErrors, RulesNameTheirLine) {
  expect_errors({
      {rule("x"), "line 3: expected a mapping"},
      {rule("enable: true"), "line 3: a rule needs quantizer_name"},
      {rule("quantizer_name: a"), "line 3: a rule needs cfg or enable"},
      {rule("{quantizer_name: a, cfg: null}"), "line 3: a rule needs cfg or enable"},
      {rule("quantizer_name: [a]\n    enable: true"), "line 3: expected a pattern"},
      {rule("quantizer_name: a\n    enable: maybe"), "line 4: expected true or false"},
      {rule("quantizer_name: a\n    enabled: true"), "line 4: unknown key 'enabled' (did you mean"},
      {rule("quantizer_name: a\n    enable: true\n    enable: true"), "line 5: the key 'enable'"},
      {rule("quantizer_name: a\n    parent_class: {}\n    enable: true"),
       "line 4: expected a class"},
  });
}

TEST(RecipeErrors, Attributes) {
  expect_errors({
      {cfg("{}"), "line 4: cfg must not be empty"},
      {cfg("[]"), "line 4: cfg must not be empty"},
      {cfg("[{num_bits: 4}, {}]"), "line 4: cfg must not be empty"},
      {cfg("8"), "line 4: expected a mapping"},
      {cfg("\n      num_bits: 4\n      bits: 3"), "line 6: unknown key 'bits'"},
      {cfg("{num_bits: 4, num_bits: 8}"), "line 4: the key 'num_bits' appears twice"},
      {cfg("\n      num_bits: 1"), "line 5: num_bits must be 2 to 16, found 1"},
      {cfg("{num_bits: 17}"), "num_bits must be 2 to 16, found 17"},
      {cfg("{num_bits: -8}"), "num_bits must be 2 to 16, found -8"},
      {cfg("{num_bits: e5m2}"), "line 4: expected a number of bits or e4m3"},
      {cfg("{num_bits: 99999999999}"), "num_bits must be 2 to 16, found 99999999999"},
      {cfg("{num_bits: 99999999999999999999}"), "expected a number of bits"},
      {cfg("{num_bits: [4, 2]}"), "expected a number of bits or e4m3"},
      {cfg("{num_bits: [4, 3, 2]}"), "expected a number of bits"},
      {cfg("{num_bits: null}"), "expected a number of bits"},
      {cfg("{num_bits: 8, axis: 0, block_sizes: {-1: 16}}"), "axis and block_sizes exclude"},
      {cfg("{axis: [0, 1]}"), "several axes are not supported"},
      {cfg("{axis: {}}"), "expected an axis or null"},
      {cfg("{axis: 1000}"), "axis must be -8 to 7"},
      {cfg("{block_sizes: 16}"), "expected a mapping"},
      {cfg("{block_sizes: {-3: 16}}"), "unknown key '-3'"},
      {cfg("{block_sizes: {-2: 16}}"), "block sizes need -1"},
      {cfg("{block_sizes: {-1: 16, -2: 16, type: dynamic}}"), "dynamic blocks have one dimension"},
      {cfg("{block_sizes: {-1: 16, scale_block_sizes: 3}}"), "line 4: expected a mapping"},
      {cfg("{block_sizes: {-1: 16, scale_block_sizes: {}}}"), "scale_block_sizes needs -1"},
      {cfg("{block_sizes: {-1: 16, four_over_six: 3}}"), "expected true or false"},
      {cfg("{block_sizes: {-1: 0}}"), "block sizes must be positive"},
      {cfg("{block_sizes: {-1: 16, -2: -4}}"), "block sizes must be positive"},
      {cfg("{block_sizes: {-1: many}}"), "expected a block size"},
      {cfg("{block_sizes: {-1: 16, type: moving}}"), "expected static or dynamic"},
      {cfg("{type: 5}"), "expected static or dynamic"},
      {cfg("{constant_amax: big}"), "expected a number"},
      {cfg("{constant_amax: .inf}"), "expected a number"},
      {cfg("{constant_amax: .nan}"), "expected a number"},
      {cfg("{constant_amax: 0}"), "constant_amax must be positive"},
      {cfg("{use_constant_amax: 2}"), "expected true or false"},
  });
}

TEST(RecipeErrors, AnEmptyCfgOfARuleThatIsOffSaysNothing) {
  const Recipe recipe =
      parse_recipe(rule("{quantizer_name: a, cfg: {}, enable: false}"), "r.yaml", {});
  EXPECT_FALSE(recipe.rules.at(0).stages.has_value());
}

TEST(RecipeErrors, ImportsNameTheirFileAndLine) {
  TemporaryFolder folder;
  folder.write("list.yaml", "- {quantizer_name: a, enable: true}\n- {quantizer_nam: a}\n");
  folder.write("broken.yaml", "a: 1\nb: [\n");
  folder.write("map.yaml", "num_bits: 4\nbits: 3\n");
  folder.write("value.yaml", "axis: 0\nnum_bits: many\n");
  folder.write("nested.yaml", "$import: list\n");
  const auto with = [](const std::string& import, const std::string& use) {
    return "imports:\n  x: " + import + "\n" + use;
  };
  const std::string as_list = "quantize:\n  quant_cfg:\n    - $import: x\n";
  const std::string as_cfg = "quantize:\n  quant_cfg:\n    - {quantizer_name: a, cfg: {$import: x";
  expect_errors(
      {
          {with("gone", as_list), "r.yaml, line 2: cannot find the import 'gone'"},
          {with("[list]", as_list), "r.yaml, line 2: expected a path"},
          {with("broken", as_list), "r.yaml, import 'broken', line 3: not valid YAML"},
          {with("list", as_list), "r.yaml, import 'list', line 2: unknown key 'quantizer_nam'"},
          {with("list", as_cfg + "}}"), "r.yaml, import 'list', line 1: expected a mapping"},
          {with("map", as_cfg + "}}"), "r.yaml, import 'map', line 2: unknown key 'bits'"},
          {with("value", as_cfg + "}}"), "r.yaml, import 'value', line 2: expected a number"},
          {with("units/fp8", as_cfg + ", nun_bits: 4}}"), "r.yaml, line 5: unknown key 'nun_bits'"},
          {with("units/fp8", as_cfg + ", axis: 0, axis: 0}}"), "line 5: the key 'axis' appears"},
          {with("units/fp8", as_cfg + ", [a]: 0}}"), "r.yaml, line 5: a key must be plain text"},
          {with("units/int8_per_channel", as_cfg + ", block_sizes: {-1: 4}}}"),
           "r.yaml, line 5: axis and block_sizes exclude each other"},
          {with("nested", as_cfg + "}}"), "import 'nested', line 1: no import is called 'list'"},
          {with("list\n  x: list", as_list), "r.yaml, line 3: the key 'x' appears twice"},
          {with("list", "quantize: {quant_cfg: [{$import: y}]}"),
           "line 3: no import is called 'y'"},
          {with("list", "quantize: {quant_cfg: [{$import: x, enable: true}]}"),
           "line 3: $import must be the only key"},
          {"imports: [a]\nquantize: {quant_cfg: []}", "line 1: imports: expected a mapping"},
          {"quantize: {$import: base}", "line 1: no import is called 'base'"},
      },
      folder.path());
}

TEST(Presets, UnknownNamesGetAHint) {
  expect_error<UsageError>([] { load_preset("nvpf4", "ptq"); },
                           "unknown format 'nvpf4' (did you mean 'nvfp4'?); supported: fp8");
  expect_error<UsageError>([] { load_preset("fp8_cats", "kv_cache"); },
                           "unknown KV cache format 'fp8_cats' (did you mean 'fp8_cast'?)");
  expect_error<UsageError>([] { load_preset("fp8_cast", "ptq"); }, "unknown format 'fp8_cast'");
  expect_error<UsageError>([] { load_preset("zzzzzzzz", "ptq"); },
                           "unknown format 'zzzzzzzz'; supported");
}

}  // namespace
}  // namespace halftone::test
