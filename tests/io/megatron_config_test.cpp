#include "io/megatron_config.h"

#include "support.h"

namespace halftone {
namespace {

using testing::HasSubstr;

constexpr const char* kYaml = R"(
_target_: nemo.collections.llm.gpt.model.llama.LlamaModel
config:
  _target_: nemo.collections.llm.gpt.model.llama.Llama31Config8B
  activation_func: {_call_: false, _target_: torch.nn.functional.silu}
  add_bias_linear: false
  ffn_hidden_size: 14336
  gated_linear_unit: true
  hidden_size: 4096
  kv_channels: null
  layernorm_epsilon: 1.0e-05
  normalization: RMSNorm
  num_attention_heads: 32
  num_layers: 32
  num_query_groups: 8
  position_embedding_type: rope
  rotary_base: 500000
  seq_length: 131072
  share_embeddings_and_output_weights: false
  scale_factor: 8.0
  low_freq_factor: 1.0
  high_freq_factor: 4.0
  old_context_len: 8192
)";

class MegatronConfig : public testing::Test {
 protected:
  // `more` comes behind what is there and decides.
  Json made(const std::string& more = "", int64_t rows = 128512) {
    test::write_file(folder_ / "model.yaml", kYaml + more);
    return hf_config_of(read_model_yaml(folder_ / "model.yaml", "config"), rows, "bfloat16",
                        tokenizer_);
  }
  std::string refused(const std::string& more) {
    return test::message_of<InputError>([&] { made(more); });
  }

  test::TemporaryFolder folder_;
  std::optional<fs::path> tokenizer_;
};

TEST_F(MegatronConfig, Llama31) {
  EXPECT_EQ(made(), parse_json(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "hidden_act": "silu", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 14336,
    "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
    "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
      "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
    "bos_token_id": null, "eos_token_id": null, "vocab_size": 128512})",
                               "expected"));
}

TEST_F(MegatronConfig, TheTokenizerTellsTheVocabulary) {
  tokenizer_ = folder_.path();
  test::write_file(folder_ / "tokenizer.json",
                   R"({"model": {"vocab": {"a": 0, "b": 1}},
                       "added_tokens": [{"id": 2, "content": "<s>"}, {"id": 3, "content": "</s>"}]})");
  test::write_file(folder_ / "tokenizer_config.json",
                   R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}})");
  const Json config = made();
  EXPECT_EQ(config.at("vocab_size"), 4);
  EXPECT_EQ(config.at("bos_token_id"), 2);
  EXPECT_EQ(config.at("eos_token_id"), 3);
  EXPECT_EQ(made("  vocab_size: 128256\n").at("vocab_size"), 128256);
}

TEST_F(MegatronConfig, Families) {
  EXPECT_EQ(made("  qk_layernorm: true\n").at("model_type"), "qwen3");
  EXPECT_EQ(made("  add_qkv_bias: true\n").at("model_type"), "qwen2");
  const Json mistral = made("  window_size: [4096, 0]\n");
  EXPECT_EQ(mistral.at("model_type"), "mistral");
  EXPECT_EQ(mistral.at("sliding_window"), 4096);
  const Json mixtral = made("  num_moe_experts: 8\n  moe_router_topk: 2\n");
  EXPECT_EQ(mixtral.at("model_type"), "mixtral");
  EXPECT_EQ(mixtral.at("num_local_experts"), 8);
}

TEST_F(MegatronConfig, RefusesWhatLlamaTypeModelsDoNotHave) {
  for (const char* setting :
       {"multi_latent_attention: true", "layernorm_zero_centered_gamma: true",
        "rotary_interleaved: true", "normalization: LayerNorm", "position_embedding_type: yarn",
        "gated_linear_unit: false", "softmax_scale: 0.1", "rotary_percent: 0.5", "hidden_size: -1",
        "hidden_size: many", "mtp_num_layers: 1", "vocab_size: 200000",
        "activation_func: {_target_: torch.nn.functional.gelu}",
        "num_moe_experts: 8\n  moe_router_topk: 2\n  moe_layer_freq: [0, 1]",
        "num_moe_experts: 8\n  moe_router_topk: 2\n  moe_router_score_function: sigmoid"}) {
    const std::string key = std::string(setting).substr(0, std::string(setting).find(':'));
    EXPECT_THAT(refused(concat("  ", setting, "\n")), HasSubstr("--source-config")) << key;
  }
}

TEST_F(MegatronConfig, RefusesFilesThatAreNone) {
  const auto read = [&](const std::string& text) {
    test::write_file(folder_ / "model.yaml", text);
    return test::message_of<InputError>([&] { read_model_yaml(folder_ / "model.yaml", "config"); });
  };
  EXPECT_THAT(read("a: [1, 2"), HasSubstr("not valid YAML"));
  EXPECT_THAT(read("- 1"), HasSubstr("expected the model's configuration under 'config'"));
  EXPECT_THAT(read(""), HasSubstr("under 'config'"));
  EXPECT_THAT(read(std::string(100'000, '[')), HasSubstr("model.yaml"));
}

}  // namespace
}  // namespace halftone
