// The presets against the tables of formats-and-hf-export.md, 1.1 to 1.5.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/core/temporary_folder.h"
#include "tests/formats/expected_quantizers.h"
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

// Which linears a preset quantizes.
enum Scope : unsigned {
  kNone = 0,
  kAll = 1,
  kMlp = 2,
  kExperts = 4,
  kOmlp = 8,
  kMlpWeights = 16,
  kMambaAggressive = 32,
  kMambaConservative = 64,
};
constexpr unsigned kEverywhere = kAll | kMambaAggressive | kMambaConservative;
constexpr unsigned kEveryMlp = kEverywhere | kMlp | kOmlp | kMlpWeights;

struct Module {
  const char* name;
  unsigned scopes;  // those that hold it
};
const Module kModules[] = {
    // Llama
    {"model.layers.0.self_attn.q_proj", kAll},
    {"model.layers.0.self_attn.o_proj", kAll | kOmlp},
    {"model.layers.31.mlp.gate_proj", kEveryMlp},
    {"lm_head", kNone},
    // Mixtral, as stored and as loaded
    {"model.layers.0.block_sparse_moe.experts.3.w1", kEveryMlp | kExperts},
    {"model.layers.0.block_sparse_moe.gate", kNone},
    {"model.layers.0.mlp.gate", kNone},
    // DeepSeek
    {"model.layers.0.self_attn.q_b_proj", kEverywhere},
    {"model.layers.0.self_attn.kv_a_proj_with_mqa", kEverywhere},
    {"model.layers.3.mlp.experts.7.down_proj", kEveryMlp | kExperts},
    {"model.layers.3.mlp.shared_experts.up_proj", kEveryMlp},
    {"model.layers.3.mlp.shared_expert_gate", kNone},
    // Nemotron-H
    {"backbone.layers.0.mixer.in_proj", kAll | kMambaAggressive},
    {"backbone.layers.0.mixer.out_proj", kAll | kMambaAggressive},
    {"backbone.layers.0.mixer.conv1d", kNone},
    {"backbone.layers.1.mixer.up_proj", kEverywhere | kMlp | kOmlp},
    {"backbone.layers.1.mixer.experts.5.up_proj", kEverywhere | kMlp | kExperts},
    {"backbone.layers.1.mixer.shared_experts.up_proj", kEverywhere},
    {"backbone.layers.1.mixer.fc1_latent_proj", kAll},
    {"backbone.layers.2.mixer.v_proj", kAll},
    {"backbone.layers.2.mixer.o_proj", kAll | kOmlp},
    // Others
    {"decoder.layers.0.self_attention.linear_qkv", kAll},
    {"model.visual.blocks.0.mlp.fc1", kNone},
    {"model.vision_tower.blocks.0.mlp.fc1", kNone},
    {"mtp.layers.0.mlp.up_proj", kNone},
    {"model.mtp.mlp.up_proj", kEveryMlp},
};

struct Expected {
  const char* name;
  const char* preset;
  const char* algorithm;  // as JSON
  std::vector<Quantizer> weight;
  std::vector<Quantizer> input;
  unsigned scope = kAll;
};

std::vector<Expected> expected_presets() {
  const std::vector<Quantizer> off;
  const std::vector<Quantizer> fp8{quantizer_with(kE4M3)};
  const std::vector<Quantizer> int8{quantizer_with(kInt8)};
  const std::vector<Quantizer> int8_rows{per_channel(kInt8)};
  const std::vector<Quantizer> int4{int4_quantizer()};
  const std::vector<Quantizer> nvfp4{nvfp4_quantizer()};
  const std::vector<Quantizer> nvfp4_32{nvfp4_quantizer(32)};
  const std::vector<Quantizer> nvfp4_static{nvfp4_quantizer(16, false)};
  const std::vector<Quantizer> mxfp4{mx_quantizer(kE2M1)};
  const std::vector<Quantizer> mxfp8{mx_quantizer(kE4M3)};
  const char* awq = R"({"method":"awq_lite","alpha_step":0.1})";
  const char* gptq = R"({"method":"gptq","layerwise":{"enable":true}})";
  return {
      {"fp8", "fp8", R"("max")", fp8, fp8},
      {"fp8_pb_wo", "fp8_2d_blockwise_weight_only", R"("max")", {fp8_2d_quantizer()}, off},
      {"fp8_pc_pt",
       "fp8_per_channel_per_token",
       R"("max")",
       {per_channel(kE4M3)},
       {fp8_per_token_quantizer()}},
      {"int4_awq", "int4_awq", awq, int4, off},
      {"int4_gptq", "int4_gptq", gptq, int4, off},
      {"int4_wo", "int4_blockwise_weight_only", R"("max")", int4, off},
      {"int8", "int8", R"("max")", int8_rows, int8},
      {"int8_sq", "int8_smoothquant", R"({"method":"smoothquant","alpha":1.0})", int8_rows, int8},
      {"int8_wo", "int8_weight_only", R"("max")", int8_rows, off},
      {"mamba_moe_fp8_aggressive", "mamba_moe_fp8_aggressive", R"("max")", fp8, fp8,
       kMambaAggressive},
      {"mamba_moe_fp8_conservative", "mamba_moe_fp8_conservative", R"("max")", fp8, fp8,
       kMambaConservative},
      {"mamba_moe_nvfp4_aggressive", "mamba_moe_nvfp4_aggressive", R"("max")", nvfp4, nvfp4,
       kMambaAggressive},
      {"mamba_moe_nvfp4_conservative", "mamba_moe_nvfp4_conservative", R"("max")", nvfp4, nvfp4,
       kMambaConservative},
      {"mxfp4", "mxfp4", "null", mxfp4, mxfp4},
      {"mxfp4_mlp_weight_only", "mxfp4_mlp_weight_only", "null", mxfp4, off, kMlpWeights},
      {"mxfp8", "mxfp8", "null", mxfp8, mxfp8},
      {"nf4", "nf4", R"("max")", {nf4_quantizer()}, off},
      {"nvfp4", "nvfp4", R"("max")", nvfp4, nvfp4},
      {"nvfp4_awq", "nvfp4_awq_lite", awq, nvfp4, nvfp4},
      {"nvfp4_awq_clip", "nvfp4_awq_clip", R"("awq_clip")", nvfp4, nvfp4},
      {"nvfp4_awq_full", "nvfp4_awq_full", R"({"method":"awq_full","alpha_step":0.1})", nvfp4,
       nvfp4},
      {"nvfp4_experts_only", "nvfp4_experts_only", R"("max")", nvfp4, nvfp4, kExperts},
      {"nvfp4_four_over_six",
       "nvfp4_four_over_six",
       R"({"method":"mse","start_multiplier":1.0,"stop_multiplier":1.5,"step_size":0.5})",
       {four_over_six_quantizer()},
       nvfp4},
      {"nvfp4_gptq", "nvfp4_gptq", gptq, nvfp4_static, nvfp4},
      {"nvfp4_local_hessian", "nvfp4_w4a4_weight_local_hessian",
       R"({"method":"local_hessian","fp8_scale_sweep":true})", nvfp4_static, nvfp4},
      {"nvfp4_mlp_only", "nvfp4_mlp_only", R"("max")", nvfp4, nvfp4, kMlp},
      {"nvfp4_mlp_weight_only", "nvfp4_mlp_weight_only", R"("max")", nvfp4_32, off, kMlpWeights},
      {"nvfp4_mse", "nvfp4_w4a4_weight_mse_fp8_sweep", R"({"method":"mse","fp8_scale_sweep":true})",
       nvfp4_static, nvfp4},
      {"nvfp4_omlp_only", "nvfp4_omlp_only", R"("max")", nvfp4, nvfp4, kOmlp},
      {"nvfp4_svdquant", "nvfp4_svdquant", R"({"method":"svdquant","lowrank":32})", nvfp4, nvfp4},
      {"w4a16_nvfp4", "w4a16_nvfp4", R"("max")", nvfp4, off},
      {"w4a8_awq", "w4a8_awq_beta", awq, {int4_quantizer(), quantizer_with(kE4M3)}, fp8},
      {"w4a8_mxfp4_fp8", "w4a8_mxfp4_fp8", "null", mxfp4, fp8},
      {"w4a8_nvfp4_fp8", "w4a8_nvfp4_fp8", R"("max")", nvfp4_32, fp8},
  };
}

void expect_quantizer(const QuantizerSequence& found, const std::vector<Quantizer>& expected,
                      bool on) {
  EXPECT_EQ(found.enabled(), on && !expected.empty());
  if (on && !expected.empty()) {
    EXPECT_EQ(found.stages, expected);
  }
}

TEST(Presets, QuantizersOfEveryKindOfModel) {
  for (const Expected& expected : expected_presets()) {
    const Recipe preset = load_preset(expected.name, "ptq");
    for (const Module& module : kModules) {
      SCOPED_TRACE(std::string(expected.name) + " on " + module.name);
      const bool on = (module.scopes & expected.scope) != 0;
      const LinearQuantizers found = preset.linear(module.name);
      expect_quantizer(found.weight, expected.weight, on);
      expect_quantizer(found.input, expected.input, on);
    }
    EXPECT_FALSE(preset.kv("model.layers.0.self_attn", 'k').enabled()) << expected.name;
    EXPECT_FALSE(preset.resolve("model.embed_tokens.weight_quantizer", "nn.Embedding").enabled());
  }
}

TEST(Presets, Names) {
  const std::vector<Expected> expected = expected_presets();
  const std::vector<Recipe> presets = all_presets("ptq");
  ASSERT_EQ(presets.size(), expected.size());
  for (size_t i = 0; i < presets.size(); ++i) {
    SCOPED_TRACE(expected[i].name);
    EXPECT_EQ(presets[i].name, expected[i].name);
    EXPECT_EQ(presets[i].preset, expected[i].preset);
    EXPECT_FALSE(presets[i].description.empty());
    EXPECT_EQ(load_preset(expected[i].name, "ptq").name, expected[i].name);
    EXPECT_EQ(load_preset(expected[i].preset, "ptq").name, expected[i].name);
    const bool gptq = presets[i].name.ends_with("gptq");
    EXPECT_EQ(presets[i].propagate == Recipe::Propagate::kQuantized, gptq);
  }
  EXPECT_EQ(load_preset("nvfp4_awq_lite", "ptq").name, "nvfp4_awq");
}

TEST(Presets, Algorithms) {
  for (const Expected& expected : expected_presets()) {
    const Json json = to_json(load_preset(expected.name, "ptq"));
    EXPECT_EQ(json["algorithm"], Json::parse(expected.algorithm)) << expected.name;
  }
}

TEST(Presets, EverythingOffThenTheFormatThenTheDisabledList) {
  for (const Recipe& preset : all_presets("ptq")) {
    SCOPED_TRACE(preset.name);
    const size_t disabled = std::size(kDisabled) + std::size(kDisabledClasses);
    size_t behind = 0;
    if (preset.name.starts_with("mamba_moe")) behind = preset.name.ends_with("aggressive") ? 8 : 10;
    ASSERT_GT(preset.rules.size(), disabled + 1 + behind);
    EXPECT_EQ(preset.rules[0].pattern, "*");
    EXPECT_EQ(preset.rules[0].enable, false);
    const size_t formats = preset.rules.size() - disabled - behind;
    for (size_t i = 1; i < formats; ++i) EXPECT_TRUE(preset.rules[i].stages.has_value());
    for (size_t i = 0; i < disabled; ++i) {
      const QuantizerRule& rule = preset.rules[formats + i];
      const bool named = i < std::size(kDisabled);
      EXPECT_EQ(rule.pattern, named ? kDisabled[i] : "*");
      EXPECT_EQ(rule.parent_class, named ? "" : kDisabledClasses[i - std::size(kDisabled)]);
      EXPECT_EQ(rule.enable, false);
      EXPECT_FALSE(rule.stages.has_value());
    }
    for (const QuantizerRule& rule : preset.rules) EXPECT_TRUE(rule.built_in);
  }
}

TEST(Presets, ExpertsOfOneTensorAreFoundInTheSingular) {
  const Recipe preset = load_preset("nvfp4_experts_only", "ptq");
  const std::string expert = "model.layers.0.mlp.experts.gate_up_proj_weight_quantizers.3";
  EXPECT_TRUE(preset.resolve(expert, "experts").enabled());
  EXPECT_TRUE(
      preset.resolve("model.layers.0.mlp.experts.gate_up_proj_input_quantizer", "x").enabled());
  EXPECT_FALSE(preset.resolve("model.layers.0.mlp.experts.weights.3", "x").enabled());
}

TEST(KvPresets, Quantizers) {
  std::vector<std::string> names;
  for (const Recipe& preset : all_presets("kv_cache")) {
    EXPECT_EQ(preset.preset, preset.name);
    EXPECT_FALSE(preset.description.empty());
    names.push_back(preset.name);
  }
  EXPECT_THAT(names, testing::ElementsAre("fp8", "fp8_affine", "fp8_cast", "nvfp4", "nvfp4_affine",
                                          "nvfp4_cast", "nvfp4_rotate"));
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    Recipe recipe = load_preset("fp8", "ptq");
    add_kv_cache(recipe, name);
    Quantizer key = name.starts_with("fp8") ? quantizer_with(kE4M3) : nvfp4_quantizer();
    key.use_constant_amax = name.ends_with("cast");
    key.bias = name.ends_with("affine");
    Quantizer value = key;
    key.rotate = name.ends_with("rotate");
    EXPECT_EQ(recipe.kv("model.layers.0.self_attn", 'k').only(), key);
    EXPECT_EQ(recipe.kv("model.layers.0.self_attn", 'v').only(), value);
    const Quantizer query = recipe.resolve("a.q_bmm_quantizer", "attention").only();
    EXPECT_FALSE(query.enable);
    EXPECT_EQ(query.rotate, key.rotate);
  }
}

TEST(KvPresets, RulesGoBehindAllOthers) {
  Recipe recipe = load_preset("nvfp4", "ptq");
  const size_t rules = recipe.rules.size();
  EXPECT_FALSE(recipe.kv("a.self_attn", 'k').enabled());
  add_kv_cache(recipe, "none");
  EXPECT_EQ(recipe.rules.size(), rules);
  add_kv_cache(recipe, "fp8");
  ASSERT_EQ(recipe.rules.size(), rules + 1);
  EXPECT_EQ(recipe.rules.back().pattern, "*[kv]_bmm_quantizer");
  EXPECT_EQ(recipe.kv("a.self_attn", 'v').only(), quantizer_with(kE4M3));
  EXPECT_FALSE(recipe.resolve("a.q_bmm_quantizer", "attention").enabled());
  EXPECT_TRUE(recipe.kv("model.visual.attn", 'k').enabled()) << "also behind the disabled list";
}

TEST(KvPresets, WhatCalibratesNothingGetsMax) {
  Recipe recipe = load_preset("mxfp4", "ptq");
  add_kv_cache(recipe, "none");
  EXPECT_TRUE(recipe.algorithms.empty());
  add_kv_cache(recipe, "fp8_cast");
  ASSERT_EQ(recipe.algorithms.size(), 1u);
  EXPECT_EQ(recipe.algorithms[0].method, "max");
  Recipe gptq = load_preset("int4_gptq", "ptq");
  add_kv_cache(gptq, "fp8");
  ASSERT_EQ(gptq.algorithms.size(), 1u);
  EXPECT_EQ(gptq.algorithms[0].method, "gptq");
}

}  // namespace
}  // namespace halftone::test
