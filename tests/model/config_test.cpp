#include <gtest/gtest.h>

#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

void expect_config_error(const char* key, const Json& value, const std::string& part) {
  Json config = tiny_config();
  config[key] = value;
  expect_error<InputError>([&] { tiny_model(config); }, "config.json: ");
  expect_error<InputError>([&] { tiny_model(config); }, part);
}

TEST(LlamaConfig, WrongSizes) {
  for (const char* key :
       {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "vocab_size", "head_dim", "max_position_embeddings"}) {
    const std::string name = std::string("'") + key + "'";
    expect_config_error(key, 0, name + " must be 1 to");
    expect_config_error(key, -1, name + " must be 1 to");
    expect_config_error(key, int64_t{1} << 32, name + " must be 1 to");
    expect_config_error(key, UINT64_MAX, name + " must be an integer");
    expect_config_error(key, 1.5, name + " must be an integer");
    expect_config_error(key, "8", name + " must be an integer");
    expect_config_error(key, Json::array({8}), name + " must be an integer");
    expect_config_error(key, true, name + " must be an integer");
  }
}

TEST(LlamaConfig, MissingSizes) {
  for (const char* key : {"hidden_size", "intermediate_size", "num_hidden_layers",
                          "num_attention_heads", "vocab_size"}) {
    Json config = tiny_config();
    config.erase(key);
    expect_error<InputError>([&] { tiny_model(config); },
                             std::string("the key '") + key + "' is missing");
  }
}

TEST(LlamaConfig, WhatDoesNotFitTogether) {
  expect_config_error("num_hidden_layers", 10001, "at most 10000");
  expect_config_error("num_key_value_heads", 3, "must be a multiple of num_key_value_heads (3)");
  expect_config_error("head_dim", 7, "even and positive, found 7");
  // 32 / 64 heads would be heads of size 0.
  expect_config_error("num_attention_heads", 64, "even and positive, found 0");
  expect_config_error("hidden_act", "gelu", "hidden_act 'gelu' is not supported");
  expect_config_error("rms_norm_eps", -1e-5, "rms_norm_eps must not be negative");
  expect_config_error("rms_norm_eps", "small", "'rms_norm_eps' must be a number");
  expect_config_error("attention_bias", "yes", "'attention_bias' must be true or false");
  expect_config_error("mlp_bias", 1, "'mlp_bias' must be true or false");
  expect_config_error("tie_word_embeddings", "no", "'tie_word_embeddings' must be true or false");
  expect_config_error("rope_scaling", Json::array(), "'rope_scaling' must be an object");
}

TEST(LlamaConfig, LargestSizesDoNotOverflow) {
  Json config = tiny_config();
  for (const char* key :
       {"hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim"}) {
    config[key] = int64_t{1} << 30;
  }
  const LinearSite query = tiny_model(config)->stages()[1].linears[0];
  EXPECT_EQ(query.out, int64_t{1} << 60);
}

TEST(LlamaConfig, Defaults) {
  Json config = tiny_config();
  for (const char* key :
       {"num_key_value_heads", "tie_word_embeddings", "rope_theta", "max_position_embeddings"}) {
    config.erase(key);
  }
  config["head_dim"] = nullptr;
  const std::unique_ptr<Model> model = tiny_model(config);
  EXPECT_EQ(model->max_positions(), 2048);
  EXPECT_EQ(model->hidden_size(), 32);
  EXPECT_EQ(model->vocabulary(), 40);
  EXPECT_EQ(model->stages()[1].linears[1].out, 32) << "as many key heads as query heads";
  EXPECT_TRUE(model->tied_tensors().empty());
}

TEST(LlamaStages, NamesGroupsAndShapes) {
  const std::unique_ptr<Model> model = tiny_model(tiny_config());
  const auto& stages = model->stages();
  ASSERT_EQ(stages.size(), 4u);
  EXPECT_EQ(stages[0].name, "embedding");
  EXPECT_EQ(stages[2].name, "layer 1");
  EXPECT_EQ(stages[3].name, "head");
  const StageSpec& layer = stages[2];
  std::vector<std::string> names;
  std::vector<int> groups;
  for (const LinearSite& linear : layer.linears) {
    names.push_back(linear.name.substr(std::string("model.layers.1.").size()));
    groups.push_back(linear.fused_group);
    EXPECT_EQ(linear.weight, linear.name + ".weight");
    EXPECT_EQ(linear.bias, "");
  }
  EXPECT_EQ(names, (std::vector<std::string>{"self_attn.q_proj", "self_attn.k_proj",
                                             "self_attn.v_proj", "self_attn.o_proj",
                                             "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}));
  EXPECT_EQ(groups, (std::vector<int>{0, 0, 0, -1, 1, 1, -1}));
  EXPECT_EQ(layer.linears[1].out, 16);
  EXPECT_EQ(layer.linears[6].in, 48);
  ASSERT_EQ(layer.attentions.size(), 1u);
  EXPECT_EQ(layer.attentions[0].name, "model.layers.1.self_attn");
}

}  // namespace
}  // namespace halftone::test
