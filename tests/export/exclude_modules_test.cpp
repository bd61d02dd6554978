#include "export/exclude_modules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/log.h"

namespace halftone::test {
namespace {

using testing::ElementsAre;
using Names = std::vector<std::string>;

const Names kLinears{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                     "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};

// The modules of a Llama, dealt by `is_quantized(layer, name)`.
template <typename Choose>
Names exclude_of(int layers, const Choose& is_quantized) {
  Names quantized;
  Names unquantized{"model.embed_tokens"};
  for (int layer = 0; layer < layers; ++layer) {
    for (const std::string& name : kLinears) {
      (is_quantized(layer, name) ? quantized : unquantized)
          .push_back(concat("model.layers.", layer, ".", name));
    }
  }
  unquantized.emplace_back("lm_head");
  return exclude_modules(quantized, unquantized);
}

// The golden results of formats-and-hf-export.md, 4.4.
TEST(ExcludeModules, ALayerAmongTwelve) {
  EXPECT_THAT(exclude_of(12, [](int layer, const std::string&) { return layer != 1; }),
              ElementsAre("lm_head", "model.embed_tokens", "model.layers.1.*"));
  EXPECT_THAT(exclude_of(9, [](int layer, const std::string&) { return layer != 1; }),
              ElementsAre("lm_head", "model.embed_tokens", "model.layers.1*"));
}

TEST(ExcludeModules, AttentionOfTwoLayers) {
  EXPECT_THAT(
      exclude_of(8, [](int layer,
                       const std::string& name) { return layer > 1 || name.starts_with("mlp"); }),
      ElementsAre("lm_head", "model.embed_tokens", "model.layers.0.self_attn*",
                  "model.layers.1.self_attn*"));
}

TEST(ExcludeModules, RouterBesideGateProj) {
  EXPECT_THAT(
      exclude_modules({"model.layers.0.mlp.gate_proj", "model.layers.0.mlp.shared_expert.x"},
                      {"model.layers.0.mlp.gate", "model.layers.0.mlp.shared_expert_gate"}),
      ElementsAre("model.layers.0.mlp.gate", "model.layers.0.mlp.shared_expert_gate"));
}

TEST(ExcludeModules, WholeVisionTower) {
  EXPECT_THAT(exclude_modules({"model.layers.0.mlp.up_proj"},
                              {"visual.blocks.0.attn.qkv", "visual.blocks.0.mlp.fc1"}),
              ElementsAre("visual*"));
}

TEST(ExcludeModules, DotsAndPrefixes) {
  EXPECT_THAT(exclude_modules({"a.bb.f", "a.c.g"}, {"a.b.c", "a.b.d", "a.bb.e"}),
              ElementsAre("a.b.*", "a.bb.e"));
  EXPECT_THAT(exclude_modules({"a.bc.f"}, {"a.b.c", "a.b"}), ElementsAre("a.b", "a.b.*"));
}

TEST(ExcludeModules, DeepSeekRoutedExpertsOnly) {
  Names quantized;
  Names unquantized{"model.embed_tokens"};
  for (int layer = 0; layer < 4; ++layer) {
    const std::string prefix = concat("model.layers.", layer, ".");
    for (const char* name : {"q_a_proj", "kv_a_proj_with_mqa", "o_proj"}) {
      unquantized.push_back(prefix + "self_attn." + name);
    }
    if (layer == 0) {
      unquantized.push_back(prefix + "mlp.up_proj");
      continue;
    }
    quantized.push_back(prefix + "mlp.experts.0.up_proj");
    quantized.push_back(prefix + "mlp.experts.1.up_proj");
    unquantized.push_back(prefix + "mlp.gate");
    unquantized.push_back(prefix + "mlp.shared_experts.up_proj");
  }
  unquantized.emplace_back("lm_head");
  EXPECT_THAT(
      exclude_modules(quantized, unquantized),
      ElementsAre("lm_head", "model.embed_tokens", "model.layers.0*", "model.layers.1.mlp.gate",
                  "model.layers.1.mlp.shared_experts*", "model.layers.1.self_attn*",
                  "model.layers.2.mlp.gate", "model.layers.2.mlp.shared_experts*",
                  "model.layers.2.self_attn*", "model.layers.3.mlp.gate",
                  "model.layers.3.mlp.shared_experts*", "model.layers.3.self_attn*"));
}

TEST(ExcludeModules, MixtralRouters) {
  EXPECT_THAT(
      exclude_modules(
          {"model.layers.0.self_attn.q_proj", "model.layers.0.block_sparse_moe.experts.0.w1"},
          {"model.embed_tokens", "model.layers.0.block_sparse_moe.gate", "lm_head"}),
      ElementsAre("lm_head", "model.embed_tokens", "model.layers.0.block_sparse_moe.gate"));
}

TEST(ExcludeModules, NothingQuantizedOrNothingLeft) {
  EXPECT_THAT(exclude_modules({}, {"model.a", "lm_head"}), ElementsAre("lm_head", "model*"));
  EXPECT_THAT(exclude_modules({"a"}, {}), ElementsAre());
}

}  // namespace
}  // namespace halftone::test
