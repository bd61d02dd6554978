// What families make of configurations that do not fit together, or not to their tensors.
#include <gtest/gtest.h>

#include "core/log.h"
#include "model/family.h"
#include "model/source_layout.h"
#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

Json fixture_config(const std::string& folder) {
  return read_json_file(data_folder() / "archs" / folder / "config.json");
}

std::unique_ptr<Model> model_of(const Json& config) {
  for (const Family& family : families()) {
    for (const std::string& architecture : family.architectures) {
      if (architecture != config.at("architectures").at(0).get<std::string>()) continue;
      return family.make({config, "config.json", {}});
    }
  }
  return nullptr;
}

struct Change {
  const char* folder;
  const char* pointer;  // into config.json
  Json value;
  const char* error;
};

TEST(FamilyConfig, ValuesThatDoNotFit) {
  const std::vector<Change> changes = {
      {"mixtral-8x7b", "/num_experts_per_tok", 9, "is above the number of experts (8)"},
      {"mixtral-8x7b", "/num_local_experts", nullptr, "the key 'num_local_experts' is missing"},
      {"mixtral-8x7b", "/num_local_experts", 5000, "at most 4096 are supported"},
      {"mixtral-8x7b", "/sliding_window", -1, "'sliding_window' must be 0 to"},
      {"qwen3-moe", "/num_experts", nullptr,
       "the key 'num_experts' or 'num_local_experts' is missing"},
      {"qwen3-moe", "/mlp_only_layers", {"1"}, "'mlp_only_layers' must hold integers"},
      {"qwen3-moe", "/decoder_sparse_step", 0, "'decoder_sparse_step' must be 1 to"},
      {"qwen2-moe", "/shared_expert_intermediate_size", nullptr,
       "'shared_expert_intermediate_size' is missing"},
      {"qwen2.5",
       "/layer_types",
       {"full_attention"},
       "'layer_types' has 1 entries, but num_hidden_layers is 2"},
      {"qwen2.5",
       "/layer_types",
       {"full_attention", "linear_attention"},
       "holds 'linear_attention', which is not supported; supported: full_attention, sliding"},
      {"phi3-mini", "/rope_scaling/long_factor", {1.0}, "'long_factor' must hold 8 numbers"},
      {"phi3-mini", "/rope_scaling/type", "ntk", "rope type 'ntk' is not supported in 'rope_sc"},
      {"phi3-mini", "/attention_bias", true, "'attention_bias' must be false in this family"},
      {"phi3-mini", "/hidden_act", "gelu", "hidden_act 'gelu' is not supported; supported: silu"},
      {"phi3.5-moe", "/num_experts_per_tok", 3, "num_experts_per_tok must be 2 in this family"},
      {"phi3.5-moe", "/router_jitter_noise", -0.1, "'router_jitter_noise' must be positive"},
      {"nemotron-nas", "/block_configs", {1}, "with one entry for each of the 4 layers"},
      {"nemotron-nas", "/block_configs/1", 5, "block_configs[1]: must be an object"},
      {"nemotron-nas", "/block_configs/0/attention/n_heads_in_group", 3,
       "block_configs[0]: attention: 'n_heads_in_group' (3) must divide num_attention_heads (4)"},
      {"nemotron-nas", "/block_configs/0/attention/window_length", 8,
       "'window_length' is not supported"},
      {"nemotron-nas", "/block_configs/0/ffn", nullptr,
       "block_configs[0]: the key 'ffn' is missing"},
      {"nemotron-nas", "/block_configs/0/ffn/ffn_mult", 1e12, "gives no possible width"},
      {"gemma3-1b", "/attn_logit_softcapping", 50.0, "'attn_logit_softcapping' is not supported"},
      {"gemma3-1b", "/use_bidirectional_attention", true, "'use_bidirectional_attention'"},
      {"gemma3-1b", "/hidden_activation", "silu", "supported: gelu_pytorch_tanh"},
      {"gemma3-4b", "/text_config", 3, "'text_config' must be an object"},
      {"gemma3-4b", "/text_config/hidden_size", nullptr,
       "config.json: text_config: the key 'hidden_size' is missing"},
      {"deepseek-v3", "/n_group", 3, "n_group (3) must divide the 8 experts"},
      {"deepseek-v3", "/n_group", 8, "into groups of two or more"},
      {"deepseek-v3", "/topk_group", 5, "must fit into topk_group (5) of n_group (4) groups of 2"},
      {"deepseek-v3", "/topk_group", 1, "num_experts_per_tok (3) experts must fit into"},
      {"deepseek-v3", "/scoring_func", "softmax", "'scoring_func' is 'softmax', which is not"},
      {"deepseek-v3", "/topk_method", "greedy", "supported: noaux_tc"},
      {"deepseek-v3", "/qk_rope_head_dim", 15, "must be even and positive"},
      {"deepseek-v3", "/num_nextn_predict_layers", 1 << 20, "at most 10000 are supported"},
      {"glm4-moe", "/partial_rotary_factor", 1.5, "the rotating part of a head must be even"},
      {"gpt-oss", "/swiglu_limit", 0, "'swiglu_limit' must be positive"},
      {"gpt-oss", "/rope_scaling/rope_type", "yarn2", "rope type 'yarn2' is not supported"},
      {"llama4-scout",
       "/text_config/no_rope_layers",
       {1},
       "'no_rope_layers' has 1 entries, but num_hidden_layers is 2"},
      {"llama4-scout", "/text_config/attn_temperature_tuning", "yes", "must be true or false"},
      {"llama4-maverick", "/interleave_moe_layer_step", 0, "'interleave_moe_layer_step' must be"},
  };
  for (const Change& change : changes) {
    Json config = fixture_config(change.folder);
    ASSERT_NE(model_of(config), nullptr);
    config[Json::json_pointer(change.pointer)] = change.value;
    SCOPED_TRACE(concat(change.folder, change.pointer));
    expect_error<InputError>([&] { model_of(config); }, "config.json: ");
    expect_error<InputError>([&] { model_of(config); }, change.error);
  }
}

TEST(FamilyConfig, ExpertsOfAllLayersAreLimited) {
  Json config = fixture_config("mixtral-8x7b");
  config["num_local_experts"] = 4096;
  config["num_hidden_layers"] = 100;
  expect_error<InputError>([&] { model_of(config); }, "there are 409600 experts in all layers");
}

TEST(FamilyConfig, TemperatureTuningAsAnInteger) {
  Json config = fixture_config("llama4-scout");
  config["text_config"]["attn_temperature_tuning"] = 4;
  EXPECT_NE(model_of(config), nullptr);
}

// A fixture whose configuration or tensors are changed.
class FamilyTensors : public testing::Test {
 protected:
  void open(const std::string& folder) {
    config_ = fixture_config(folder);
    const SafetensorsFile file(data_folder() / "archs" / folder / "model.safetensors");
    tensors_.clear();
    for (const auto& [name, info] : file.tensors()) tensors_[name] = tensor_of(file, name);
  }
  void expect(const std::string& part) {
    write_checkpoint(folder_.path(), config_, tensors_);
    const Checkpoint checkpoint(folder_.path());
    const auto check = [&] {
      const auto model = make_model(checkpoint);
      SourceLayout(checkpoint, *model);
    };
    expect_error<InputError>(check, part);
  }

  TemporaryFolder folder_;
  Json config_;
  Tensors tensors_;
};

TEST_F(FamilyTensors, LayersThatTheConfigurationDoesNotKnow) {
  open("mixtral-8x7b");
  config_["num_hidden_layers"] = 1;
  expect("config.json asks for 1 of 'model.layers.*', numbered from 0");
  config_["num_hidden_layers"] = 3;
  expect("model.layers.2.");
  open("deepseek-v3");
  config_["num_nextn_predict_layers"] = 0;
  expect("tensor 'model.layers.2.");
}

TEST_F(FamilyTensors, ExpertsThatAreMissingOrTooMany) {
  open("qwen3-moe");
  tensors_.erase("model.layers.1.mlp.experts.5.up_proj.weight");
  expect("model.layers.1.mlp.experts.5.up_proj.weight");
  open("qwen3-moe");
  tensors_["model.layers.0.mlp.experts.8.up_proj.weight"] = at::zeros({16, 64}, at::kBFloat16);
  expect("config.json asks for 8 of 'model.layers.0.mlp.experts.*'");
  open("qwen3-moe");
  config_["num_experts"] = 9;
  expect("tensor 'model.layers.0.mlp.gate.weight'");
}

TEST_F(FamilyTensors, StacksOfAnotherShape) {
  open("llama4-scout");
  const std::string name = "language_model.model.layers.0.feed_forward.experts.gate_up_proj";
  tensors_[name] = tensors_[name].slice(0, 0, 3).clone();
  expect("tensor '" + name + "'");
  expect("has shape [3, 64, 32], but config.json asks for [4, 64, 32]");
}

TEST_F(FamilyTensors, BlocksOfOneLayer) {
  open("nemotron-nas");
  config_["block_configs"][3]["ffn"] = config_["block_configs"][0]["ffn"];
  expect("model.layers.3.mlp.gate_proj.weight");
  open("nemotron-nas");
  config_["block_configs"][0]["attention"]["n_heads_in_group"] = 4;
  expect("tensor 'model.layers.0.self_attn.k_proj.weight'");
}

}  // namespace
}  // namespace halftone::test
