#include "io/megatron_names.h"

#include "io/safetensors.h"
#include "support.h"

namespace halftone {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

MegatronShape shape_of(const char* model_type, int64_t experts = 0) {
  return megatron_shape({{"model_type", model_type},
                         {"num_hidden_layers", 2},
                         {"num_attention_heads", 4},
                         {"num_key_value_heads", 2},
                         {"hidden_size", 8},
                         {"vocab_size", 10},
                         {"num_experts", experts}},
                        "'c'");
}

// "name [shape] from+count from+count ..."
std::vector<std::string> mapped(const std::string& key, const std::vector<int64_t>& shape,
                                const MegatronShape& model) {
  std::vector<std::string> lines;
  for (const MappedTensor& tensor : map_megatron_tensor(key, shape, model, "'m'")) {
    std::string line = concat(tensor.name, " ", shape_text(tensor.shape));
    int64_t end = 0;
    for (const ElementRun& run : tensor.runs) {
      EXPECT_EQ(run.to, end);
      end += run.count;
      line += concat(" ", run.from, "+", run.count);
    }
    lines.push_back(line);
  }
  return lines;
}

TEST(MegatronNames, QueriesKeysAndValuesAreTakenApart) {
  const MegatronShape model = shape_of("llama");
  // Groups of two queries, a key and a value, each of two rows of eight.
  EXPECT_THAT(mapped("module.decoder.layers.1.self_attention.linear_qkv.weight", {16, 8}, model),
              ElementsAre("model.layers.1.self_attn.q_proj.weight [8, 8] 0+32 64+32",
                          "model.layers.1.self_attn.k_proj.weight [4, 8] 32+16 96+16",
                          "model.layers.1.self_attn.v_proj.weight [4, 8] 48+16 112+16"));
  EXPECT_THAT(mapped("decoder.layers.self_attention.linear_qkv.bias", {2, 16}, model),
              ElementsAre("model.layers.0.self_attn.q_proj.bias [8] 0+4 8+4",
                          "model.layers.0.self_attn.k_proj.bias [4] 4+2 12+2",
                          "model.layers.0.self_attn.v_proj.bias [4] 6+2 14+2",
                          "model.layers.1.self_attn.q_proj.bias [8] 16+4 24+4",
                          "model.layers.1.self_attn.k_proj.bias [4] 20+2 28+2",
                          "model.layers.1.self_attn.v_proj.bias [4] 22+2 30+2"));
}

TEST(MegatronNames, ExpertsAreStackedOrApart) {
  const MegatronShape mixtral = shape_of("mixtral", 2);
  EXPECT_THAT(mapped("decoder.layers.1.mlp.experts.experts.linear_fc1.weight", {2, 4, 3}, mixtral),
              ElementsAre("model.layers.1.block_sparse_moe.experts.0.w1.weight [2, 3] 0+6",
                          "model.layers.1.block_sparse_moe.experts.0.w3.weight [2, 3] 6+6",
                          "model.layers.1.block_sparse_moe.experts.1.w1.weight [2, 3] 12+6",
                          "model.layers.1.block_sparse_moe.experts.1.w3.weight [2, 3] 18+6"));
  EXPECT_THAT(mapped("decoder.layers.mlp.router.weight", {2, 2, 3}, mixtral),
              ElementsAre("model.layers.0.block_sparse_moe.gate.weight [2, 3] 0+6",
                          "model.layers.1.block_sparse_moe.gate.weight [2, 3] 6+6"));
  const MegatronShape qwen = shape_of("qwen3_moe", 2);
  EXPECT_THAT(mapped("decoder.layers.mlp.experts.experts.linear_fc2.weight", {2, 2, 3, 1}, qwen),
              ElementsAre("model.layers.0.mlp.experts.0.down_proj.weight [3, 1] 0+3",
                          "model.layers.0.mlp.experts.1.down_proj.weight [3, 1] 3+3",
                          "model.layers.1.mlp.experts.0.down_proj.weight [3, 1] 6+3",
                          "model.layers.1.mlp.experts.1.down_proj.weight [3, 1] 9+3"));
  EXPECT_THAT(mapped("decoder.layers.0.mlp.experts.experts.1.linear_fc1.weight_v", {4, 3}, qwen),
              ElementsAre("model.layers.0.mlp.experts.1.up_proj.weight [4, 3] 0+12"));
  EXPECT_THAT(
      mapped("decoder.layers.0.mlp.experts.local_experts.0.linear_fc2.weight", {4, 3}, qwen),
      ElementsAre("model.layers.0.mlp.experts.0.down_proj.weight [4, 3] 0+12"));
}

TEST(MegatronNames, PaddingOfTheVocabularyIsCut) {
  const MegatronShape model = shape_of("llama");
  EXPECT_THAT(mapped("embedding.word_embeddings.weight", {16, 8}, model),
              ElementsAre("model.embed_tokens.weight [10, 8] 0+80"));
}

std::string refused(const std::string& key, const std::vector<int64_t>& shape,
                    const MegatronShape& model) {
  return test::message_of<InputError>([&] { map_megatron_tensor(key, shape, model, "'m'"); });
}

TEST(MegatronNames, RefusesWhatHasNoPlace) {
  const MegatronShape model = shape_of("llama");
  EXPECT_THAT(refused("decoder.layers.0.mlp.router.weight", {2, 3}, model), HasSubstr("no place"));
  EXPECT_THAT(refused("decoder.layers.2.mlp.linear_fc2.weight", {2, 3}, model),
              HasSubstr("beyond the 2 layers"));
  EXPECT_THAT(refused("decoder.layers.mlp.linear_fc2.weight", {3, 2, 3}, model),
              HasSubstr("the 2 layers of config.json in dimension 0"));
  EXPECT_THAT(refused("decoder.layers.99999999999.mlp.linear_fc2.weight", {2, 3}, model),
              HasSubstr("no place"));
  EXPECT_THAT(refused("decoder.layers.0.mlp.linear_fc1.weight", {3, 3}, model),
              HasSubstr("equal halves"));
  EXPECT_THAT(refused("decoder.layers.mlp.linear_fc2.weight", {2}, model),
              HasSubstr("lacks the dimensions"));
  EXPECT_THAT(refused("output_layer.weight", {0, 8}, model), HasSubstr("is empty"));
  EXPECT_THAT(refused("vision_model.conv.weight", {2, 8}, model), HasSubstr("no place"));
}

TEST(MegatronNames, StateOfTheRunIsNoPartOfTheModel) {
  for (const char* key : {"optimizer.state.exp_avg.decoder.layers.mlp.linear_fc2.weight",
                          "chained_0.optimizer.state.exp_avg", "rng_state/shard_0_1",
                          "module.decoder.layers.0.mlp.linear_fc1._extra_state/shard_0_2"}) {
    EXPECT_FALSE(reason_to_drop(key).empty()) << key;
  }
  EXPECT_TRUE(reason_to_drop("decoder.layers.mlp.linear_fc1.weight").empty());
}

}  // namespace
}  // namespace halftone
