#include "export/quant_config.h"

#include <gtest/gtest.h>

#include "tests/core/temporary_folder.h"
#include "tests/formats/quantizers.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

QuantConfig config_of(const Model& model, const Json& config, const Recipe& recipe) {
  const TemporaryFolder folder;
  write_checkpoint(folder.path(), config, tiny_tensors(model));
  const Checkpoint checkpoint(folder.path());
  return make_quant_config(model, plan_target(model, recipe), SourceLayout(checkpoint, model));
}

QuantConfig config_of(const std::string& format, const std::string& kv,
                      const std::string& more = "") {
  Recipe recipe = load_preset(format, "ptq");
  add_kv_cache(recipe, kv);
  if (!more.empty()) {
    const Recipe extra = recipe_of(more);
    recipe.rules.insert(recipe.rules.end(), extra.rules.begin(), extra.rules.end());
  }
  const auto model = tiny_model(tiny_config());
  return config_of(*model, tiny_config(), recipe);
}

// Ordered, so the text shows the keys' order.
void expect_text(const Json& json, const std::string& text) {
  EXPECT_EQ(json.dump(), parse_json(text, "expected").dump());
}

const std::string kProducer = R"("producer": {"name": "modelopt", "version": "0.47.0"})";
const std::string kExcluded = R"(["lm_head", "model.embed_tokens"])";
const std::string kEight = R"({"dynamic": false, "num_bits": 8, "type": "float"})";
const std::string kFour = R"({"dynamic": false, "num_bits": 4, "type": "float", "group_size": 16})";

TEST(QuantConfig, Fp8WithFp8Cache) {
  const QuantConfig config = config_of("fp8", "fp8");
  expect_text(config.hf_quant_config, "{" + kProducer +
                                          R"(, "quantization": {"quant_algo": "FP8",
      "kv_cache_quant_algo": "FP8", "exclude_modules": )" +
                                          kExcluded + "}}");
  expect_text(config.quantization_config,
              R"({"config_groups": {"group_0": {"input_activations": )" + kEight +
                  R"(, "weights": )" + kEight + R"(, "targets": ["Linear"]}}, "ignore": )" +
                  kExcluded + R"(, "quant_algo": "FP8", "kv_cache_scheme": )" + kEight + ", " +
                  kProducer + R"(, "quant_method": "modelopt"})");
  EXPECT_EQ(config_of("fp8", "fp8_cast").quantization_config, config.quantization_config)
      << "a cast cache reads the same";
}

TEST(QuantConfig, Nvfp4) {
  const QuantConfig config = config_of("nvfp4", "none");
  expect_text(config.hf_quant_config, "{" + kProducer +
                                          R"(, "quantization": {"quant_algo": "NVFP4",
      "kv_cache_quant_algo": null, "group_size": 16, "exclude_modules": )" +
                                          kExcluded + "}}");
  expect_text(config.quantization_config,
              R"({"config_groups": {"group_0": {"input_activations": )" + kFour +
                  R"(, "weights": )" + kFour + R"(, "targets": ["Linear"]}}, "ignore": )" +
                  kExcluded + R"(, "quant_algo": "NVFP4", )" + kProducer +
                  R"(, "quant_method": "modelopt"})");
}

TEST(QuantConfig, ABlockThatNobodyAssumesIsSaid) {
  const Json source = read_json_file(data_folder() / "models" / "nano-llama" / "config.json");
  const QuantConfig config =
      config_of(*tiny_model(source), source, load_preset("nvfp4_mlp_weight_only", "ptq"));
  EXPECT_EQ(config.quantization_config["quant_algo"], "W4A16_NVFP4");
  EXPECT_EQ(config.quantization_config["group_size"], 32);
  EXPECT_EQ(config.hf_quant_config["quantization"]["group_size"], 32);
  EXPECT_FALSE(config_of("nvfp4", "none").quantization_config.contains("group_size"));
  EXPECT_TRUE(config.quant_cfg.is_null());
}

TEST(QuantConfig, Int8HasNoGroup) {
  const QuantConfig config = config_of("int8_wo", "none");
  EXPECT_EQ(config.hf_quant_config["quantization"]["quant_algo"], "W8A16");
  expect_text(config.quantization_config, R"({"ignore": )" + kExcluded +
                                              R"(, "quant_algo": "W8A16", )" + kProducer +
                                              R"(, "quant_method": "modelopt"})");
}

// What Model Optimizer wrote for nano-llama.
TEST(QuantConfig, EqualsTheReferencesFiles) {
  const Json source = read_json_file(data_folder() / "models" / "nano-llama" / "config.json");
  const auto model = tiny_model(source);
  for (const char* format : {"fp8", "nvfp4"}) {
    const Json golden =
        read_json_file(data_folder() / "goldens" / "nano-llama" / (std::string(format) + ".json"));
    Recipe recipe = load_preset(format, "ptq");
    if (golden["kv_preset"].is_string()) add_kv_cache(recipe, golden["kv_preset"]);
    const QuantConfig config = config_of(*model, source, recipe);
    EXPECT_EQ(config.hf_quant_config.dump(), golden["hf_quant_config"].dump());
    EXPECT_EQ(config.quantization_config.dump(), golden["config_json_quantization_config"].dump());
  }
}

TEST(QuantConfig, MixedPrecision) {
  const QuantConfig config = config_of("nvfp4", "fp8", R"(
  - {quantizer_name: '*.0.self_attn*weight_quantizer', cfg: {num_bits: e4m3}}
  - {quantizer_name: '*.0.self_attn*input_quantizer', cfg: {num_bits: e4m3}}
  - {quantizer_name: '*layers.1.mlp*', enable: false}
)");
  const Json& nested = config.hf_quant_config["quantization"];
  EXPECT_EQ(nested["quant_algo"], "MIXED_PRECISION");
  EXPECT_FALSE(nested.contains("exclude_modules"));
  std::vector<std::string> modules;
  for (const auto& [name, entry] : nested["quantized_layers"].items()) modules.push_back(name);
  ASSERT_EQ(modules.size(), 11u);
  EXPECT_EQ(modules[0], "model.layers.0.self_attn.q_proj") << "in module order";
  EXPECT_EQ(modules[4], "model.layers.0.mlp.gate_proj");
  expect_text(nested["quantized_layers"][modules[0]], R"({"quant_algo": "FP8"})");
  expect_text(nested["quantized_layers"][modules[4]],
              R"({"quant_algo": "NVFP4", "group_size": 16})");

  EXPECT_EQ(config.quant_cfg["quantized_layers"], nested["quantized_layers"]);
  EXPECT_EQ(config.quant_cfg["quant_algo"], "MIXED_PRECISION");
  EXPECT_EQ(config.quant_cfg["kv_cache_quant_algo"], "FP8");

  const Json& flat = config.quantization_config;
  std::vector<std::string> keys;
  for (const auto& [key, value] : flat.items()) keys.push_back(key);
  EXPECT_EQ(keys,
            (std::vector<std::string>{"config_groups", "quantized_layers", "ignore", "quant_algo",
                                      "kv_cache_scheme", "producer", "quant_method"}));
  EXPECT_EQ(flat["ignore"], Json::array());
  EXPECT_EQ(flat["quantized_layers"], nested["quantized_layers"]);
  expect_text(flat["config_groups"]["group_0"],
              R"({"input_activations": )" + kEight + R"(, "weights": )" + kEight +
                  R"(, "targets": ["model.layers.0.self_attn.k_proj",
      "model.layers.0.self_attn.o_proj", "model.layers.0.self_attn.q_proj",
      "model.layers.0.self_attn.v_proj"]})");
  EXPECT_EQ(flat["config_groups"]["group_1"]["weights"].dump(),
            parse_json(kFour, "expected").dump());
  EXPECT_EQ(flat["config_groups"]["group_1"]["targets"].size(), 7u);
}

TEST(QuantConfig, MixedWithInt8Weights) {
  const QuantConfig config = config_of("fp8", "none", R"(
  - {quantizer_name: '*.1.*input_quantizer', enable: false}
  - {quantizer_name: '*.1.*weight_quantizer', cfg: {num_bits: 8, axis: 0}}
)");
  const Json& group = config.quantization_config["config_groups"]["group_1"];
  EXPECT_FALSE(group.contains("input_activations"));
  expect_text(group["weights"], R"({"dynamic": false, "num_bits": 8, "type": "int"})");
}

TEST(QuantConfig, CacheOnly) {
  const Recipe recipe = recipe_of("  - {quantizer_name: '*[kv]_bmm*', cfg: {num_bits: e4m3}}\n");
  const auto model = tiny_model(tiny_config());
  const QuantConfig config = config_of(*model, tiny_config(), recipe);
  expect_text(config.hf_quant_config, "{" + kProducer +
                                          R"(, "quantization": {"quant_algo": null,
      "kv_cache_quant_algo": "FP8", "quantized_layers": {}}})");
  expect_text(config.quantization_config, R"({"quantized_layers": {}, "ignore": [],
      "kv_cache_scheme": )" + kEight + ", " + kProducer +
                                              R"(, "quant_method": "modelopt"})");
}

}  // namespace
}  // namespace halftone::test
