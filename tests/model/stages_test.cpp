// What stages tell of their linears: names, groups, shards, experts.
#include <gtest/gtest.h>

#include <set>

#include "core/log.h"
#include "model/family.h"
#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

std::unique_ptr<Model> model_of(const std::string& folder,
                                std::function<bool(const std::string&)> has_tensor = {}) {
  const Json config = read_json_file(data_folder() / "archs" / folder / "config.json");
  for (const Family& family : families()) {
    for (const std::string& architecture : family.architectures) {
      if (architecture != config.at("architectures").at(0).get<std::string>()) continue;
      return family.make({config, "config.json", std::move(has_tensor)});
    }
  }
  return nullptr;
}

const LinearSite& site_of(const StageSpec& stage, const std::string& name) {
  for (const LinearSite& site : stage.linears) {
    if (site.name == name) return site;
  }
  throw std::runtime_error("no site " + name);
}

const TensorNeed& need_of(const StageSpec& stage, const std::string& name) {
  for (const TensorNeed& need : stage.tensors) {
    if (need.name == name) return need;
  }
  throw std::runtime_error("no tensor " + name);
}

std::vector<std::string> norms_of(const StageSpec& stage) {
  std::vector<std::string> names;
  for (const NormSite& norm : stage.norms) names.push_back(norm.weight);
  return names;
}

// The names of the sites with this group number.
std::set<std::string> group_of(const StageSpec& stage, int group) {
  std::set<std::string> names;
  for (const LinearSite& site : stage.linears) {
    if (site.fused_group == group) names.insert(site.name);
  }
  return names;
}

constexpr const char* kFolders[] = {"llama-3.1",    "llama-3.2",
                                    "llama4-scout", "llama4-maverick",
                                    "mixtral-8x7b", "phi3-mini",
                                    "phi4",         "phi4-mini",
                                    "phi3.5-moe",   "nemotron-nas",
                                    "gemma3-1b",    "gemma3-4b",
                                    "qwen2.5",      "qwen3",
                                    "qwen3-moe",    "qwen2-moe",
                                    "glm4-moe",     "deepseek-moonlight",
                                    "deepseek-v3",  "gpt-oss"};

TEST(Stages, SitesHaveTheirTensorsAndGroupsTheirNorms) {
  for (const char* folder : kFolders) {
    const std::unique_ptr<Model> model = model_of(folder);
    std::set<std::string> names;
    for (const StageSpec& stage : model->stages()) {
      for (const LinearSite& site : stage.linears) {
        SCOPED_TRACE(site.name);
        EXPECT_TRUE(names.insert(site.name).second);
        EXPECT_EQ(need_of(stage, site.weight).shape, (std::vector<int64_t>{site.out, site.in}));
        EXPECT_EQ(need_of(stage, site.weight).expert, site.expert);
        if (!site.bias.empty()) {
          EXPECT_EQ(need_of(stage, site.bias).shape, std::vector<int64_t>{site.out});
        }
        EXPECT_EQ(site.expert >= 0, !site.role.empty());
        EXPECT_LT(site.expert, std::max(stage.experts, 1));
        if (site.fused_group >= 0) {
          EXPECT_GE(group_of(stage, site.fused_group).size(), 2u);
        }
        if (site.previous >= 0) {
          EXPECT_EQ(stage.linears[static_cast<size_t>(site.previous)].expert, site.expert);
        }
      }
      for (const NormSite& norm : stage.norms) {
        EXPECT_GE(group_of(stage, norm.fused_group).size(), 2u) << norm.weight;
        EXPECT_EQ(norm.adds_one, std::string(folder).starts_with("gemma")) << norm.weight;
      }
    }
  }
}

TEST(Stages, Llama) {
  const StageSpec layer = model_of("llama-3.1")->stages()[1];
  const std::string prefix = "model.layers.0.";
  const LinearSite& o = site_of(layer, prefix + "self_attn.o_proj");
  const LinearSite& down = site_of(layer, prefix + "mlp.down_proj");
  EXPECT_EQ(layer.linears[static_cast<size_t>(o.previous)].name, prefix + "self_attn.v_proj");
  EXPECT_EQ(layer.linears[static_cast<size_t>(down.previous)].name, prefix + "mlp.up_proj");
  EXPECT_EQ(o.shard, ShardAxis::kInput);
  EXPECT_EQ(down.shard, ShardAxis::kInput);
  std::vector<std::string> trtllm;
  for (const LinearSite& site : layer.linears) trtllm.push_back(site.trtllm);
  EXPECT_EQ(trtllm,
            (std::vector<std::string>{"attention.qkv", "attention.qkv", "attention.qkv",
                                      "attention.dense", "mlp.fc", "mlp.gate", "mlp.proj"}));
  EXPECT_EQ(site_of(layer, prefix + "self_attn.k_proj").shard, ShardAxis::kOutput);
  EXPECT_EQ(norms_of(layer),
            (std::vector<std::string>{prefix + "input_layernorm.weight",
                                      prefix + "post_attention_layernorm.weight"}));
  EXPECT_EQ(model_of("llama-3.1")->stages()[0].plain_modules,
            std::vector<std::string>{"model.embed_tokens"});
}

TEST(Stages, RoutedExpertsOfTheirOwn) {
  const std::unique_ptr<Model> model = model_of("mixtral-8x7b");
  const StageSpec& layer = model->stages()[1];
  const std::string block = "model.layers.0.block_sparse_moe";
  EXPECT_EQ(layer.experts, 8);
  EXPECT_EQ(layer.plain_modules, std::vector<std::string>{block + ".gate"});
  const LinearSite& gate = site_of(layer, block + ".experts.3.w1");
  EXPECT_EQ(gate.expert, 3);
  EXPECT_EQ(gate.role, "w1");
  EXPECT_EQ(gate.stacked, "");
  EXPECT_EQ(group_of(layer, gate.fused_group),
            (std::set<std::string>{block + ".experts.3.w1", block + ".experts.3.w3"}));
  EXPECT_EQ(site_of(layer, block + ".experts.3.w2").previous, -1) << "Mixtral does not fold";
  EXPECT_EQ(gate.trtllm, "mlp.fc");
  // The router reads what the experts read.
  EXPECT_EQ(norms_of(layer), std::vector<std::string>{"model.layers.0.input_layernorm.weight"});
  EXPECT_EQ(model->numbered_prefixes(), (std::vector<std::pair<std::string, int64_t>>{
                                            {"model.layers.", 2},
                                            {"model.layers.0.block_sparse_moe.experts.", 8},
                                            {"model.layers.1.block_sparse_moe.experts.", 8}}));
  const StageSpec qwen = model_of("qwen3-moe")->stages()[1];
  const LinearSite& down = site_of(qwen, "model.layers.0.mlp.experts.2.down_proj");
  EXPECT_EQ(qwen.linears[static_cast<size_t>(down.previous)].name,
            "model.layers.0.mlp.experts.2.up_proj");
}

TEST(Stages, SharedExpertWithAGate) {
  const StageSpec layer = model_of("qwen2-moe")->stages()[1];
  EXPECT_EQ(layer.plain_modules,
            (std::vector<std::string>{"model.layers.0.mlp.gate",
                                      "model.layers.0.mlp.shared_expert_gate"}));
  const LinearSite& up = site_of(layer, "model.layers.0.mlp.shared_expert.up_proj");
  EXPECT_EQ(up.expert, -1);
  EXPECT_EQ(up.trtllm, "mlp.shared_expert.fc");
  EXPECT_EQ(group_of(layer, up.fused_group).size(), 2u);
}

TEST(Stages, StackedExperts) {
  for (const auto& [folder, block, bias] :
       {std::tuple("llama4-scout", "language_model.model.layers.1.feed_forward", false),
        std::tuple("gpt-oss", "model.layers.1.mlp", true)}) {
    const std::unique_ptr<Model> model = model_of(folder);
    const StageSpec& layer = model->stages()[2];
    const std::string container = std::string(block) + ".experts.gate_up_proj";
    const std::string name = std::string(block) + ".experts.2.gate_up_proj";
    const LinearSite& site = site_of(layer, name);
    EXPECT_EQ(site.stacked, container);
    EXPECT_EQ(site.fused_group, -1);
    EXPECT_EQ(site.trtllm, "");
    EXPECT_EQ(site.bias, bias ? name + ".bias" : "");
    const StackedSlice& slice = need_of(layer, site.weight).stacked;
    EXPECT_EQ(slice.tensor, container);
    EXPECT_EQ(slice.index, 2);
    EXPECT_EQ(slice.count, 4);
    EXPECT_TRUE(slice.input_major);
    EXPECT_EQ(layer.plain_modules.back(), std::string(block) + ".router");
    if (bias) {
      const StackedSlice& of_bias = need_of(layer, site.bias).stacked;
      EXPECT_EQ(of_bias.tensor, container + "_bias");
      EXPECT_FALSE(of_bias.input_major);
    }
    EXPECT_EQ(model->numbered_prefixes().size(), 1u) << "only layers";
  }
}

TEST(Stages, LatentAttention) {
  const std::unique_ptr<Model> model = model_of("deepseek-v3");
  const StageSpec& layer = model->stages()[2];
  const std::string attention = "model.layers.1.self_attn.";
  const LinearSite& q_a = site_of(layer, attention + "q_a_proj");
  EXPECT_EQ(group_of(layer, q_a.fused_group),
            (std::set<std::string>{attention + "q_a_proj", attention + "kv_a_proj_with_mqa"}));
  EXPECT_EQ(q_a.shard, ShardAxis::kNone);
  EXPECT_EQ(site_of(layer, attention + "kv_b_proj").shard, ShardAxis::kOutput);
  EXPECT_EQ(site_of(layer, attention + "kv_b_proj").fused_group, -1);
  EXPECT_EQ(site_of(layer, attention + "q_b_proj").fused_group, -1);
  ASSERT_EQ(layer.attentions.size(), 1u);
  EXPECT_EQ(layer.attentions[0].key_dim, 32);
  EXPECT_EQ(layer.attentions[0].value_dim, 20);
  EXPECT_TRUE(need_of(layer, "model.layers.1.mlp.gate.e_score_correction_bias").keeps_dtype);
  EXPECT_EQ(norms_of(layer), std::vector<std::string>{"model.layers.1.input_layernorm.weight"});
  const StageSpec plain = model_of("deepseek-moonlight")->stages()[1];
  const std::string first = "model.layers.0.self_attn.";
  EXPECT_EQ(group_of(plain, site_of(plain, first + "q_proj").fused_group),
            (std::set<std::string>{first + "q_proj", first + "kv_a_proj_with_mqa"}));
  EXPECT_EQ(norms_of(plain).size(), 2u) << "a dense layer";
}

TEST(Stages, NextTokenLayers) {
  const std::vector<std::string> prefix = {"model.layers.2."};
  EXPECT_EQ(model_of("deepseek-v3")->next_token_prefixes(), prefix);
  EXPECT_EQ(model_of("deepseek-v3")->numbered_prefixes().front().second, 3);
  const auto without = [](const std::string&) { return false; };
  EXPECT_TRUE(model_of("deepseek-v3", without)->next_token_prefixes().empty());
  const auto with = [](const std::string& name) { return name == "model.layers.2.eh_proj.weight"; };
  EXPECT_EQ(model_of("deepseek-v3", with)->next_token_prefixes(), prefix);
}

TEST(Stages, FusedProjections) {
  const StageSpec layer = model_of("phi4")->stages()[1];
  EXPECT_EQ(site_of(layer, "model.layers.0.self_attn.qkv_proj").out, 64 + 2 * 16);
  EXPECT_EQ(site_of(layer, "model.layers.0.mlp.gate_up_proj").trtllm, "mlp.fc");
  EXPECT_TRUE(layer.norms.empty()) << "groups of one";
}

TEST(Stages, BlocksOfNemotron) {
  const auto model = model_of("nemotron-nas");
  const auto names = [&](size_t layer) {
    std::vector<std::string> all;
    for (const LinearSite& site : model->stages()[layer + 1].linears) all.push_back(site.name);
    return all;
  };
  EXPECT_EQ(names(1).size(), 3u) << "no attention";
  EXPECT_EQ(names(2), (std::vector<std::string>{"model.layers.2.self_attn.linear_attn",
                                                "model.layers.2.mlp.linear_mlp"}));
  EXPECT_EQ(names(3).size(), 4u) << "no feed-forward";
  EXPECT_TRUE(model->stages()[2].attentions.empty());
  EXPECT_EQ(model->stages()[1].attentions[0].kv_heads, 2);
  EXPECT_EQ(model->stages()[4].attentions[0].kv_heads, 1);
}

TEST(Stages, NormsOfGemma) {
  const std::string prefix = "language_model.model.layers.0.";
  EXPECT_EQ(norms_of(model_of("gemma3-4b")->stages()[1]),
            (std::vector<std::string>{prefix + "input_layernorm.weight",
                                      prefix + "pre_feedforward_layernorm.weight"}));
}

// The prefix of a multimodal model's text tower is found in its tensors.
TEST(Stages, PrefixesOfTextTowers) {
  const auto names = [](const std::string& embedding, bool head_outside) {
    const auto has = [=](const std::string& name) {
      return name == embedding + ".weight" || (head_outside && name == "lm_head.weight");
    };
    const auto model = model_of("llama4-scout", has);
    return std::pair(model->stages()[0].plain_modules[0], model->stages().back().linears[0].name);
  };
  using Names = std::pair<std::string, std::string>;
  EXPECT_EQ(names("language_model.model.embed_tokens", false),
            Names("language_model.model.embed_tokens", "language_model.lm_head"));
  EXPECT_EQ(names("language_model.model.embed_tokens", true),
            Names("language_model.model.embed_tokens", "lm_head"));
  EXPECT_EQ(names("model.language_model.embed_tokens", false),
            Names("model.language_model.embed_tokens", "lm_head"));
  EXPECT_EQ(names("model.embed_tokens", false), Names("model.embed_tokens", "lm_head"));
  const std::vector<std::string> carried = model_of("llama4-scout")->carried_prefixes();
  for (const char* prefix : {"vision_model.", "model.vision_tower.", "multi_modal_projector."}) {
    EXPECT_EQ(std::count(carried.begin(), carried.end(), prefix), 1) << prefix;
  }
  EXPECT_TRUE(model_of("llama4-maverick")->carried_prefixes().empty());
}

}  // namespace
}  // namespace halftone::test
