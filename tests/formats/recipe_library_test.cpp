// Built-in recipes (calibration.md, 13.2), files, folders, and rules that match nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/recipe.h"
#include "tests/core/temporary_folder.h"
#include "tests/formats/expected_quantizers.h"

namespace halftone::test {
namespace {

struct Expected {
  const char* name;
  const char* preset;  // whose linears it quantizes alike
  const char* kv;
  const char* algorithm = R"("max")";
};
constexpr const char* kMse = R"({"method":"mse","fp8_scale_sweep":true})";
const Expected kRecipes[] = {
    {"fp8_default-kv_fp8", "fp8", "fp8"},
    {"fp8_default-kv_fp8_cast", "fp8", "fp8_cast"},
    {"int4_blockwise_weight_only", "int4_wo", "none"},
    {"mxfp4_mlp_weight_only", "mxfp4_mlp_weight_only", "none", "null"},
    {"nvfp4_act_headroom-kv_fp8_cast", "nvfp4", "fp8_cast",
     R"({"method":"nvfp4_act_headroom","anchor_percentile":1.0,"upper_percentile":99.99,)"
     R"("rho":16384.0})"},
    {"nvfp4_default-kv_fp8", "nvfp4", "fp8"},
    {"nvfp4_default-kv_fp8_cast", "nvfp4", "fp8_cast"},
    {"nvfp4_default-kv_none-gptq", "nvfp4_gptq", "none",
     R"({"method":"gptq","layerwise":{"enable":true}})"},
    {"nvfp4_default-kv_nvfp4_cast", "nvfp4", "nvfp4_cast"},
    {"nvfp4_experts_only-kv_fp8", "nvfp4_experts_only", "fp8"},
    {"nvfp4_experts_only-kv_fp8_cast", "nvfp4_experts_only", "fp8_cast"},
    {"nvfp4_experts_only-kv_fp8_layerwise", "nvfp4_experts_only", "fp8",
     R"({"method":"max","layerwise":{"enable":true}})"},
    {"nvfp4_experts_only-kv_fp8_layerwise_offload", "nvfp4_experts_only", "fp8",
     R"({"method":"max","layerwise":{"enable":true,"calib_mutates_weights":false}})"},
    {"nvfp4_experts_only_input_scale1-kv_fp8_cast", nullptr, "fp8_cast",
     R"({"method":"max","skip_forward_without_activation_calib":true})"},
    {"nvfp4_experts_only_mse-kv_fp8_cast", nullptr, "fp8_cast", kMse},
    {"nvfp4_mlp_only-kv_fp8", "nvfp4_mlp_only", "fp8"},
    {"nvfp4_mlp_only-kv_fp8_cast", "nvfp4_mlp_only", "fp8_cast"},
    {"nvfp4_mlp_only-novit-kv_fp8", "nvfp4_mlp_only", "fp8"},
    {"nvfp4_mlp_only_mse-kv_fp8_cast", nullptr, "fp8_cast", kMse},
    {"nvfp4_mlp_weight_only", "nvfp4_mlp_weight_only", "none"},
    {"nvfp4_omlp_only-kv_fp8", "nvfp4_omlp_only", "fp8"},
    {"nvfp4_omlp_only-kv_fp8_cast", "nvfp4_omlp_only", "fp8_cast"},
    {"nvfp4_weight_only-kv_fp16", "w4a16_nvfp4", "none"},
    {"nvfp4_weight_only-kv_fp8_cast", "w4a16_nvfp4", "fp8_cast"},
};
constexpr const char* kLinears[] = {
    "model.layers.0.self_attn.q_proj",      "model.layers.0.self_attn.o_proj",
    "model.layers.0.mlp.up_proj",           "model.layers.0.mlp.experts.3.up_proj",
    "model.layers.0.mlp.shared_experts.up", "model.layers.0.block_sparse_moe.experts.1.w1",
    "backbone.layers.0.mixer.up_proj",      "backbone.layers.0.mixer.experts.0.up_proj",
    "model.layers.0.block_sparse_moe.gate", "model.visual.blocks.0.mlp.fc1",
    "model.vision_tower.blocks.0.mlp.fc1",  "lm_head"};

TEST(BuiltInRecipes, AllOfThem) {
  std::vector<std::string> names;
  for (const Expected& expected : kRecipes) {
    SCOPED_TRACE(expected.name);
    names.push_back(std::string("general/ptq/") + expected.name);
    const Recipe recipe = load_recipe(expected.name);
    EXPECT_EQ(recipe.name, expected.name);
    EXPECT_FALSE(recipe.description.empty());
    EXPECT_EQ(to_json(recipe)["algorithm"], Json::parse(expected.algorithm));
    Recipe caches = load_preset("fp8", "ptq");
    add_kv_cache(caches, expected.kv);
    for (const char which : {'k', 'v'}) {
      EXPECT_EQ(recipe.kv("model.layers.0.self_attn", which).stages,
                caches.kv("model.layers.0.self_attn", which).stages);
    }
    if (expected.preset == nullptr) continue;
    const Recipe preset = load_preset(expected.preset, "ptq");
    for (const char* linear : kLinears) {
      SCOPED_TRACE(linear);
      EXPECT_EQ(recipe.linear(linear).weight.stages, preset.linear(linear).weight.stages);
      EXPECT_EQ(recipe.linear(linear).input.stages, preset.linear(linear).input.stages);
    }
  }
  EXPECT_THAT(recipe_names(), testing::UnorderedElementsAreArray(names));
}

TEST(BuiltInRecipes, Specials) {
  const std::string expert = "model.layers.0.mlp.experts.3.up_proj";
  Quantizer one = nvfp4_quantizer();
  one.constant_amax = 2688.0;
  const Recipe scale1 = load_recipe("nvfp4_experts_only_input_scale1-kv_fp8_cast");
  EXPECT_EQ(scale1.linear(expert).weight.only(), nvfp4_quantizer());
  EXPECT_EQ(scale1.linear(expert).input.only(), one);
  EXPECT_FALSE(scale1.linear("model.layers.0.mlp.up_proj").weight.enabled());
  for (const char* name :
       {"nvfp4_experts_only_mse-kv_fp8_cast", "nvfp4_mlp_only_mse-kv_fp8_cast"}) {
    const Recipe mse = load_recipe(name);
    EXPECT_EQ(mse.linear(expert).weight.only(), nvfp4_quantizer(16, false));
    EXPECT_EQ(mse.linear(expert).input.only(), nvfp4_quantizer());
    EXPECT_EQ(mse.linear("model.layers.0.mlp.up_proj").weight.enabled(),
              std::string(name).starts_with("nvfp4_mlp"));
  }
  const std::vector<QuantizerRule> novit = load_recipe("nvfp4_mlp_only-novit-kv_fp8").rules;
  EXPECT_EQ(novit[novit.size() - 2].pattern, "*visual*");
  EXPECT_EQ(novit.back().pattern, "*vision_tower*");
  EXPECT_EQ(load_recipe("nvfp4_default-kv_none-gptq").propagate, Recipe::Propagate::kQuantized);
}

TEST(LoadRecipe, BuiltInThenFilesThenFolders) {
  TemporaryFolder folder;
  EXPECT_EQ(load_recipe("general/ptq/fp8_default-kv_fp8.yaml").name, "fp8_default-kv_fp8");
  EXPECT_EQ(load_recipe("fp8_default-kv_fp8.yml").name, "fp8_default-kv_fp8");
  folder.write("mine.yml", "quantize: {quant_cfg: [{quantizer_name: a, enable: true}]}\n");
  EXPECT_EQ(load_recipe((folder.path() / "mine").string()).name, "mine");
  EXPECT_EQ(load_recipe((folder.path() / "mine.yml").string()).rules.at(0).pattern, "a");
  fs::create_directory(folder.path() / "whole");
  folder.write("whole/metadata.yml", "recipe_type: ptq\ndescription: of a folder\n");
  folder.write("whole/quantize.yml",
               "imports: {fp8: units/fp8, mine: here}\nalgorithm: mse\n"
               "quant_cfg: [{quantizer_name: b, cfg: {$import: fp8}}, {$import: mine}]\n");
  folder.write("whole/here.yml", "{quantizer_name: c, enable: false}\n");
  const Recipe whole = load_recipe((folder.path() / "whole").string());
  EXPECT_EQ(whole.name, "whole");
  EXPECT_EQ(whole.description, "of a folder");
  EXPECT_EQ(whole.algorithms.at(0).method, "mse");
  EXPECT_EQ(whole.rules.at(0).stages->at(0), quantizer_with(kE4M3));
  EXPECT_EQ(whole.rules.at(1).pattern, "c");
  EXPECT_EQ(load_recipe((folder.path() / "whole/").string()).name, "whole");
}

TEST(LoadRecipe, Errors) {
  TemporaryFolder folder;
  expect_error<UsageError>([] { load_recipe("nvfp4_default-kv_pf8"); },
                           "'nvfp4_default-kv_pf8' is neither a built-in recipe nor a file (did "
                           "you mean 'nvfp4_default-kv_fp8'?)");
  expect_error<UsageError>([&] { load_recipe(folder.path().string()); }, "holds no metadata.yml");
  folder.write("metadata.yml", "{recipe_type: ptq, other: 3}\n");
  expect_error<UsageError>([&] { load_recipe(folder.path().string()); }, "holds no quantize.yml");
  folder.write("quantize.yml", "quantize: {quant_cfg: []}\n");
  expect_error<UsageError>([&] { load_recipe(folder.path().string()); },
                           "metadata.yml, line 1: unknown key 'other'");
  expect_error<UsageError>([&] { load_recipe_file(folder.path() / "gone.yaml"); }, "is no file");
  expect_error<UsageError>([] { load_recipe_file("/dev/zero"); }, "'/dev/zero' is no file");
  folder.write("large.yaml", std::string(size_t{2} << 20, ' '));
  expect_error<UsageError>([&] { load_recipe_file(folder.path() / "large.yaml"); }, "larger than");
}

TEST(LoadRecipe, OtherTypesOfRecipes) {
  const auto read = [](const std::string& text) { parse_recipe(text, "r.yaml", {}); };
  const std::string rest = "\nquantize: {quant_cfg: []}";
  expect_error<UsageError>([&] { read("metadata: {recipe_type: auto_quantize}" + rest); },
                           "line 1: an auto_quantize recipe is for another command, halftone auto");
  expect_error<UsageError>([&] { read("auto_quantize: {}" + rest); }, "halftone autoquantize");
  expect_error<UsageError>([&] { read("metadata: {recipe_type: speculative_eagle}" + rest); },
                           "recipe_type 'speculative_eagle' is not supported; supported: ptq");
  expect_error<UsageError>([&] { read("metadata: {aliases: a}" + rest); }, "a list of names");
  EXPECT_NO_THROW(read("quantize: {quant_cfg: [], effective_bits: 4.5}"));
  expect_error<UsageError>([&] { read("quantize: {quant_cfg: [], effective_bits: few}"); },
                           "expected a number of bits");
}

TEST(Presets, NotShippedOnesSayWhy) {
  expect_error<UsageError>([] { load_preset("mxfp6", "ptq"); },
                           "the format 'mxfp6' is not supported: there is no checkpoint format");
  expect_error<UsageError>([] { load_preset("mxint8", "ptq"); }, "no checkpoint format for MXINT8");
  expect_error<UsageError>([] { load_preset("nvfp4_fp8_mha", "ptq"); }, "diffusion models");
}

const std::vector<QuantizerName>& model_names() {
  static const std::vector<QuantizerName> names = [] {
    std::vector<QuantizerName> list;
    for (int layer = 0; layer < 12; ++layer) {
      const std::string prefix = "model.layers." + std::to_string(layer);
      for (const char* linear : {".self_attn.q_proj", ".self_attn.o_proj", ".mlp.up_proj"}) {
        list.push_back({prefix + linear + ".weight_quantizer", "nn.Linear"});
        list.push_back({prefix + linear + ".input_quantizer", "nn.Linear"});
      }
      list.push_back({prefix + ".self_attn.k_bmm_quantizer", "attention"});
    }
    return list;
  }();
  return names;
}

TEST(UnmatchedRules, NamesPatternLineAndTheNearest) {
  const Recipe recipe = parse_recipe(R"(
imports: {off: units/all_off, mlp: units/mlp_nvfp4}
quantize:
  quant_cfg:
    - $import: off
    - $import: mlp
    - {quantizer_name: '*mlp.pu_proj.weight_quantizer', cfg: {num_bits: 8}}
    - {quantizer_name: '*q_proj.weight_quantizer', cfg: {num_bits: 8}}
    - {quantizer_name: 'model.layer.*.self_attn.q_proj.*', enable: true}
    - {quantizer_name: '*gone*', enable: false}
    - {quantizer_name: '*gone*', cfg: {num_bits: 8, enable: false}}
    - {quantizer_name: '*q_proj*', parent_class: nn.Conv2d, enable: true}
    - {quantizer_name: 'zzzzzzzzzzzzzzzzzzzz', enable: true}
)",
                                     "mine.yaml", {});
  const std::vector<UnmatchedRule> unmatched = unmatched_rules(recipe, model_names());
  ASSERT_EQ(unmatched.size(), 4u);
  EXPECT_EQ(unmatched[0].message,
            "mine.yaml, line 7: the pattern '*mlp.pu_proj.weight_quantizer' matches no quantizer "
            "of this model; the nearest is 'model.layers.*.mlp.up_proj.weight_quantizer'");
  EXPECT_EQ(unmatched[1].rule.line, 9);
  EXPECT_NE(unmatched[1].message.find("nearest is 'model.layers.*.self_attn.q_proj."),
            std::string::npos);
  EXPECT_NE(unmatched[2].message.find("'*q_proj*' for nn.Conv2d"), std::string::npos);
  EXPECT_EQ(unmatched[3].message,
            "mine.yaml, line 13: the pattern 'zzzzzzzzzzzzzzzzzzzz' matches no quantizer of this "
            "model");
}

TEST(UnmatchedRules, PresetsNeverHaveSome) {
  for (const Recipe& preset : all_presets("ptq")) {
    EXPECT_TRUE(unmatched_rules(preset, model_names()).empty()) << preset.name;
  }
}

}  // namespace
}  // namespace halftone::test
