// Files that were made to hurt: every one ends in a UsageError, soon.
#include <gtest/gtest.h>

#include <random>

#include "core/embedded.h"
#include "formats/recipe.h"
#include "tests/core/temporary_folder.h"

namespace halftone::test {
namespace {

std::string repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

void expect_usage_error(const std::string& yaml, const std::string& message,
                        const fs::path& directory = {}) {
  expect_error<UsageError>([&] { parse_recipe(yaml, "r.yaml", directory); }, message);
}

TEST(HostileRecipes, Depth) {
  expect_usage_error("a: " + repeated("[", 40) + repeated("]", 40),
                     "r.yaml, line 1: nested deeper than 32 levels");
  expect_usage_error("\na: " + repeated("[", 100'000), "r.yaml, line 2: not valid YAML");
  expect_usage_error("a: " + repeated("{a: ", 100'000), "r.yaml, line 1: not valid YAML");
  expect_usage_error(repeated("- ", 100'000), "r.yaml, line 1: not valid YAML");
}

TEST(HostileRecipes, AliasBombs) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    const std::string below = "*a" + std::to_string(i - 1);
    const std::string name = "a" + std::to_string(i);
    bomb += name + ": &" + name + " [" + below + repeated(", " + below, 9) + "]\n";
  }
  expect_usage_error(bomb, "line 1: more than 200000 values with all aliases and imports");
  expect_usage_error("a: &a [*a]\n", "line 1: nested deeper than 32 levels");
}

TEST(HostileRecipes, ImportBombs) {
  TemporaryFolder folder;
  folder.write("i0.yaml", repeated("- {quantizer_name: a, enable: true}\n", 100));
  for (int i = 1; i < 8; ++i) {
    folder.write(
        "i" + std::to_string(i) + ".yaml",
        "imports: {x: i" + std::to_string(i - 1) + "}\n---\n" + repeated("- $import: x\n", 100));
  }
  expect_usage_error("imports: {x: i7}\nquantize: {quant_cfg: [{$import: x}]}",
                     "more than 200000 values with all aliases and imports", folder.path());
  std::string many = "imports:\n";
  for (int i = 0; i < 300; ++i) many += "  x" + std::to_string(i) + ": i0\n";
  expect_usage_error(many, "r.yaml, line 258: more than 256 imports", folder.path());
}

TEST(HostileRecipes, Numbers) {
  expect_usage_error(
      "quantize:\n quant_cfg:\n" + repeated(" - {quantizer_name: a, enable: true}\n", 10'001),
      "r.yaml, line 10003: more than 10000 rules");
  expect_usage_error(
      "quantize:\n quant_cfg:\n - quantizer_name: " + std::string(600, 'a') + "\n   enable: true\n",
      "line 3: a pattern of more than 512 characters");
  expect_usage_error(
      "quantize: {quant_cfg: [{quantizer_name: a, cfg: [" + repeated("{num_bits: 4}, ", 9) + "]}]}",
      "more than 8 stages");
  std::string keys = "quantize:\n quant_cfg:\n";
  for (int i = 0; i < 30'000; ++i) keys += "  k" + std::to_string(i) + ": {enable: true}\n";
  expect_usage_error(keys, "line 10003: more than 10000 rules");
}

TEST(HostileRecipes, PatternsTakeLittleTime) {
  std::string pattern;
  for (int i = 0; i < 250; ++i) pattern += "a*";
  EXPECT_FALSE(glob_matches(pattern + "b", std::string(2000, 'a')));
  EXPECT_TRUE(glob_matches(pattern, std::string(2000, 'a')));
}

// A random change of a text that was a recipe before.
std::string mutated(std::string text, std::mt19937& random) {
  const auto below = [&](size_t n) { return random() % std::max<size_t>(1, n); };
  static const std::string kPieces[] = {"[",
                                        "]",
                                        "{",
                                        "}",
                                        ":",
                                        "- ",
                                        "&a ",
                                        "*a",
                                        "'",
                                        "\"",
                                        "\n",
                                        "---\n",
                                        "$import",
                                        "null",
                                        "-1",
                                        "1e999",
                                        "#",
                                        "|\n",
                                        "? ",
                                        "!!binary ",
                                        "\t",
                                        "\xff",
                                        "<<: ",
                                        "~",
                                        "e4m3",
                                        "true",
                                        "imports: ",
                                        "cfg: ",
                                        "enable",
                                        "layerwise: ",
                                        "99999999999999999999"};
  for (size_t edits = 1 + below(3); edits > 0; --edits) {
    const size_t at = below(text.size());
    const size_t length = below(20);
    switch (below(5)) {
      case 0:
        text.erase(at, length);
        break;
      case 1:
        text.insert(at, kPieces[below(std::size(kPieces))]);
        break;
      case 2:
        text.insert(at, text.substr(below(text.size()), length));
        break;
      case 3:
        text.replace(at, length, kPieces[below(std::size(kPieces))]);
        break;
      default:
        if (at < text.size()) text[at] = static_cast<char>(random() % 256);
    }
  }
  return text;
}

TEST(HostileRecipes, MutatedFilesAreReadOrRefused) {
  std::mt19937 random(20240607);
  int read = 0;
  int refused = 0;
  const std::string unusual =
      "imports: {n: units/nf4, kv: units/kv_nvfp4_rotate}\nmetadata: {recipe_type: ptq}\n"
      "quantize:\n  algorithm: [{method: awq_full, alpha_step: 0.2}, gptq]\n  propagate: original\n"
      "  quant_cfg:\n    '*w': {$import: n}\n    nn.Embedding: {'*': {enable: false}}\n"
      "    '*x': {num_bits: [4, 3], bias: {-2: null, -4: null, type: static}, rotate: true}\n"
      "    '*y': [{num_bits: 4, block_sizes: {-1: null}}, {num_bits: 8, constant_amax: 3.5}]\n";
  std::vector<std::string> seeds{unusual, unusual, unusual};
  for (const EmbeddedFile& file : embedded_files()) {
    const bool recipe = file.name.starts_with("formats/") || file.name.starts_with("recipes/");
    if (recipe) seeds.emplace_back(file.content);
  }
  for (int round = 0; round < 4000; ++round) {
    const std::string text = mutated(seeds[random() % seeds.size()], random);
    SCOPED_TRACE(text);
    try {
      const Recipe recipe = parse_recipe(text, "fuzz.yaml", {});
      recipe.linear("model.layers.0.mlp.up_proj");
      ++read;
    } catch (const UsageError& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with("fuzz.yaml")) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(read, 100);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace halftone::test
