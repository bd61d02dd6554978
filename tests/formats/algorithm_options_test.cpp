#include "formats/algorithm_options.h"

#include <gtest/gtest.h>

#include "tests/core/temporary_folder.h"
#include "tests/formats/quantizers.h"

namespace halftone::test {
namespace {

Recipe with_algorithm(const std::string& yaml) {
  return parse_recipe("quantize:\n  quant_cfg: []\n  algorithm: " + yaml + "\n", "r.yaml", {});
}

AlgorithmSpec only(const std::string& yaml) {
  const Recipe recipe = with_algorithm(yaml);
  EXPECT_EQ(recipe.algorithms.size(), 1u);
  return recipe.algorithms.at(0);
}

TEST(Algorithms, NamesMappingsListsAndNothing) {
  EXPECT_EQ(recipe_of("  - {quantizer_name: a, enable: true}\n").algorithms.at(0).method, "max");
  EXPECT_EQ(only("mse").method, "mse");
  EXPECT_EQ(only("{method: gptq}").line, 3);
  EXPECT_TRUE(with_algorithm("null").algorithms.empty());
  EXPECT_TRUE(with_algorithm("none").algorithms.empty());
  const Recipe two = with_algorithm("[smoothquant, {method: mse, step: 0.5}]");
  ASSERT_EQ(two.algorithms.size(), 2u);
  EXPECT_EQ(two.algorithms[0].method, "smoothquant");
  EXPECT_EQ(option(two.algorithms[1], "step_size"), 0.5);
}

TEST(Algorithms, DefaultsOfCalibrationSection5) {
  EXPECT_EQ(option(only("mse"), "start_multiplier"), 0.25);
  EXPECT_EQ(option(only("mse"), "stop_multiplier"), 4.0);
  EXPECT_EQ(option(only("mse"), "step_size"), 0.1);
  EXPECT_FALSE(flag_option(only("mse"), "fp8_scale_sweep"));
  EXPECT_TRUE(flag_option(only("local_hessian"), "fp8_scale_sweep"));
  EXPECT_EQ(integer_option(only("local_hessian"), "block_size"), 16);
  EXPECT_EQ(option(only("nvfp4_act_headroom"), "anchor_percentile"), 1.0);
  EXPECT_EQ(option(only("nvfp4_act_headroom"), "upper_percentile"), 99.99);
  EXPECT_EQ(option(only("nvfp4_act_headroom"), "rho"), 16384.0);
  EXPECT_EQ(algorithm_option(only("nvfp4_act_headroom"), "weight_scale_algorithm").method, "max");
  EXPECT_EQ(option(only("smoothquant"), "alpha"), 1.0);
  for (const char* method : {"awq_lite", "awq_full", "svdquant"}) {
    EXPECT_EQ(option(only(method), "alpha_step"), 0.1);
  }
  for (const char* method : {"awq_clip", "awq_full"}) {
    EXPECT_EQ(integer_option(only(method), "max_co_batch_size"), 1024);
    EXPECT_EQ(integer_option(only(method), "max_tokens_per_batch"), 64);
    EXPECT_EQ(option(only(method), "min_clip_ratio"), 0.5);
    EXPECT_EQ(option(only(method), "shrink_step"), 0.05);
  }
  EXPECT_EQ(integer_option(only("svdquant"), "lowrank"), 32);
  EXPECT_TRUE(texts_option(only("svdquant"), "skip_layers").empty());
  EXPECT_EQ(option(only("gptq"), "perc_damp"), 0.01);
  EXPECT_EQ(integer_option(only("gptq"), "block_size"), 128);
  EXPECT_FALSE(flag_option(only("gptq"), "fused"));
  EXPECT_FALSE(flag_option(only("gptq"), "act_order"));
}

TEST(Algorithms, GivenOptionsWin) {
  const AlgorithmSpec mse = only("{method: mse, start: 1, stop_multiplier: 1.5, step: 0.5}");
  EXPECT_EQ(option(mse, "start_multiplier"), 1.0);
  EXPECT_EQ(option(mse, "start"), 1.0) << "both names";
  EXPECT_EQ(option(mse, "stop"), 1.5);
  const AlgorithmSpec svd = only("{method: svdquant, lowrank: 64, skip_layers: ['*.0.*', b]}");
  EXPECT_EQ(integer_option(svd, "lowrank"), 64);
  EXPECT_EQ(texts_option(svd, "skip_layers"), (std::vector<std::string>{"*.0.*", "b"}));
  const AlgorithmSpec nested = algorithm_option(
      only("{method: nvfp4_act_headroom, weight_scale_algorithm: {method: mse, stop: 2}}"),
      "weight_scale_algorithm");
  EXPECT_EQ(nested.method, "mse");
  EXPECT_EQ(option(nested, "stop"), 2.0);
  EXPECT_TRUE(flag_option(only("{method: gptq, act_order: true}"), "act_order"));
}

TEST(Algorithms, TheTableIsConsistent) {
  for (const AlgorithmMethod& method : algorithm_methods()) {
    EXPECT_FALSE(method.help.empty());
    for (const AlgorithmOption& one : method.options) {
      SCOPED_TRACE(method.name + "." + one.name);
      EXPECT_FALSE(one.help.empty());
      const AlgorithmSpec spec{method.name, Json::object(), 0};
      if (one.type == OptionType::kNumber) {
        EXPECT_GE(option(spec, one.name), one.low);
        EXPECT_LE(option(spec, one.name), one.high);
      } else if (one.type == OptionType::kInteger) {
        EXPECT_GE(static_cast<double>(integer_option(spec, one.name)), one.low);
        EXPECT_LE(static_cast<double>(integer_option(spec, one.name)), one.high);
      } else if (one.type == OptionType::kFlag) {
        EXPECT_NO_THROW(flag_option(spec, one.name));
      }
    }
  }
  EXPECT_THROW(option({"max", Json::object(), 0}, "alpha"), std::logic_error);
  EXPECT_THROW(option({"svdquant", Json::object(), 0}, "skip_layers"), std::logic_error);
  EXPECT_THROW(integer_option({"gptq", Json::object(), 0}, "perc_damp"), std::logic_error);
  EXPECT_EQ(option({"gptq", Json::object(), 0}, "block_size"), 128.0);
  EXPECT_EQ(option({"local_hessian", Json::object(), 0}, "fp8_scale_sweep"), 1.0);
  EXPECT_THROW(option({"unknown", Json::object(), 0}, "alpha"), std::logic_error);
}

TEST(Algorithms, ErrorsNameTheirLine) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"awq", "r.yaml, line 3: unknown algorithm 'awq'"},
      {"smoothquand", "(did you mean 'smoothquant'?); supported: max, mse, local_hessian"},
      {"[]", "line 3: an empty list; write null to calibrate nothing"},
      {"[max, null]", "line 3: expected the name of an algorithm"},
      {"[[max]]", "line 3: expected the name of an algorithm"},
      {"{alpha: 1}", "line 3: an algorithm needs a method"},
      {"\n    method: mse\n    stpe_size: 1",
       "line 5: unknown key 'stpe_size' of mse (did you mean"},
      {"{method: max, alpha: 1}", "unknown key 'alpha' of max"},
      {"{method: mse, start: 1, start_multiplier: 1}", "'start_multiplier' is given twice"},
      {"{method: mse, start: 3, stop: 2}", "start_multiplier must not be above stop_multiplier"},
      {"{method: mse, step: 0}", "step_size must be 0.001 to 1000, found 0"},
      {"{method: mse, stop: 1000, step: 0.001}", "more than 10000 steps from start to stop"},
      {"{method: mse, fp8_scale_sweep: 2}", "expected true or false"},
      {"{method: smoothquant, alpha: much}", "expected a number"},
      {"{method: smoothquant, alpha: .nan}", "expected a number"},
      {"{method: smoothquant, alpha: 1.01}", "alpha must be 0 to 1, found 1.01"},
      {"{method: gptq, block_size: 0}", "block_size must be 1 to 65536, found 0"},
      {"{method: gptq, block_size: 1.5}", "expected a whole number"},
      {"{method: gptq, block_size: 1e99}", "expected a whole number"},
      {"{method: nvfp4_act_headroom, rho: 28672}", "rho must be"},
      {"{method: nvfp4_act_headroom, anchor_percentile: 99, upper_percentile: 9}",
       "anchor_percentile must not be above upper_percentile"},
      {"{method: nvfp4_act_headroom, weight_scale_algorithm: gptq}", "must be max, mse or local_h"},
      {"{method: svdquant, skip_layers: a}", "expected a list of patterns"},
      {"{method: svdquant, skip_layers: [[a]]}", "expected a pattern"},
      {"{method: svdquant, layerwise: true}", "svdquant has no layerwise mode"},
      {"{method: awq_lite, layerwise: {calib_mutates_weights: false}}",
       "calib_mutates_weights: false is wrong for awq_lite"},
      {"{method: max, layerwise: {save_every: 0}}", "save_every must be at least 1, found 0"},
      {"{method: max, layerwise: {enabled: true}}", "unknown key 'enabled' (did you mean 'enable'"},
      {"{method: max, layerwise: maybe}", "expected true, false or a mapping"},
  };
  for (const auto& [yaml, message] : cases) {
    SCOPED_TRACE(yaml);
    expect_error<UsageError>([&yaml = yaml] { with_algorithm(yaml); }, message);
  }
}

TEST(Algorithms, WhatTheNextStageGets) {
  using enum Recipe::Propagate;
  EXPECT_EQ(with_algorithm("max").propagate, kOriginal);
  EXPECT_EQ(with_algorithm("gptq").propagate, kQuantized);
  EXPECT_EQ(with_algorithm("[max, gptq]").propagate, kQuantized);
  EXPECT_EQ(with_algorithm("{method: gptq, layerwise: true}").propagate, kQuantized);
  EXPECT_EQ(with_algorithm("{method: gptq, layerwise: false}").propagate, kOriginal);
  const std::string flag = "get_qdq_activations_from_prev_layer: ";
  EXPECT_EQ(with_algorithm("{method: gptq, layerwise: {" + flag + "false}}").propagate, kOriginal);
  EXPECT_EQ(with_algorithm("{method: mse, layerwise: {" + flag + "true, enable: true}}").propagate,
            kQuantized);
  EXPECT_EQ(with_algorithm("{method: mse, layerwise: {" + flag + "true}}").propagate, kOriginal)
      << "not layer by layer";
  EXPECT_EQ(with_algorithm("gptq\n  propagate: original").propagate, kOriginal);
  EXPECT_EQ(with_algorithm("max\n  propagate: quantized").propagate, kQuantized);
  expect_error<UsageError>([] { with_algorithm("max\n  propagate: both"); },
                           "r.yaml, line 4: expected original or quantized");
}

}  // namespace
}  // namespace halftone::test
