// What T5's and Whisper's config.json may say.
#include <gtest/gtest.h>

#include "core/log.h"
#include "model/family.h"
#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

Json config_of(const std::string& fixture) {
  return read_json_file(data_folder() / "archs" / fixture / "config.json");
}

using HasTensor = std::function<bool(const std::string&)>;

std::unique_ptr<Model> make(const Family& family, const Json& config,
                            const HasTensor& has_tensor = {}) {
  return family.make({config, "config.json", has_tensor});
}
std::unique_ptr<Model> t5(const Json& config, const HasTensor& has_tensor = {}) {
  return make(t5_family(), config, has_tensor);
}

Json with(Json config, const Json& changes) {
  config.update(changes);
  return config;
}

const StageSpec& stage(const Model& model, const std::string& name) {
  for (const StageSpec& one : model.stages()) {
    if (one.name == name) return one;
  }
  throw std::out_of_range(name);
}

std::vector<std::string> linear_names(const StageSpec& stage) {
  std::vector<std::string> names;
  for (const LinearSite& linear : stage.linears) names.push_back(linear.name);
  return names;
}

TEST(T5Config, StagesInOrder) {
  const auto model = t5(config_of("t5-v1.1"));
  std::vector<std::string> names;
  for (const StageSpec& one : model->stages()) names.push_back(one.name);
  EXPECT_EQ(names, (std::vector<std::string>{
                       "encoder embedding", "encoder layer 0", "encoder layer 1", "encoder layer 2",
                       "decoder embedding", "decoder layer 0", "decoder layer 1", "head"}));
  EXPECT_TRUE(model->has_encoder());
}

TEST(T5Config, SitesOfADecoderLayer) {
  const auto model = t5(config_of("t5-v1.1"));
  const StageSpec& layer = stage(*model, "decoder layer 1");
  const std::string block = "decoder.block.1.layer.";
  const std::string self = block + "0.SelfAttention.";
  const std::string cross = block + "1.EncDecAttention.";
  const std::string mlp = block + "2.DenseReluDense.";
  EXPECT_EQ(linear_names(layer),
            (std::vector<std::string>{self + "q", self + "k", self + "v", self + "o", cross + "q",
                                      cross + "k", cross + "v", cross + "o", mlp + "wi_0",
                                      mlp + "wi_1", mlp + "wo"}));
  const std::vector<int> groups = {0, 0, 0, -1, -1, 1, 1, -1, 2, 2, -1};
  const std::vector<int> previous = {-1, -1, -1, 2, -1, -1, -1, 6, -1, -1, 9};
  const std::vector<bool> of_encoder = {false, false, false, false, false, true,
                                        true,  false, false, false, false};
  const std::vector<std::string> trtllm = {"self_attention.qkv",
                                           "self_attention.qkv",
                                           "self_attention.qkv",
                                           "self_attention.dense",
                                           "cross_attention.qkv",
                                           "cross_attention.qkv",
                                           "cross_attention.qkv",
                                           "cross_attention.dense",
                                           "mlp.fc",
                                           "mlp.gate",
                                           "mlp.proj"};
  for (size_t i = 0; i < layer.linears.size(); ++i) {
    const LinearSite& site = layer.linears[i];
    EXPECT_EQ(site.fused_group, groups[i]) << site.name;
    EXPECT_EQ(site.previous, previous[i]) << site.name;
    EXPECT_EQ(site.of_encoder, of_encoder[i]) << site.name;
    EXPECT_EQ(site.trtllm, trtllm[i]) << site.name;
    const bool out = site.name.ends_with("o");
    EXPECT_EQ(site.shard, out ? ShardAxis::kInput : ShardAxis::kOutput) << site.name;
  }
  ASSERT_EQ(layer.norms.size(), 2U);
  EXPECT_EQ(layer.norms[0].weight, block + "0.layer_norm.weight");
  EXPECT_EQ(layer.norms[0].fused_group, 0);
  EXPECT_EQ(layer.norms[1].weight, block + "2.layer_norm.weight");
  EXPECT_EQ(layer.norms[1].fused_group, 2);
  ASSERT_EQ(layer.attentions.size(), 2U);
  EXPECT_FALSE(layer.attentions[0].of_encoder);
  EXPECT_TRUE(layer.attentions[1].of_encoder);
  // The bias table is block 0's, named once among the modules that are not quantized.
  const std::string table = "decoder.block.0.layer.0.SelfAttention.relative_attention_bias";
  const auto reads_table = [&](const StageSpec& one) {
    return std::any_of(one.tensors.begin(), one.tensors.end(),
                       [&](const TensorNeed& need) { return need.name == table + ".weight"; });
  };
  EXPECT_TRUE(reads_table(layer));
  EXPECT_TRUE(layer.plain_modules.empty());
  EXPECT_EQ(stage(*model, "decoder layer 0").plain_modules, std::vector<std::string>{table});
}

TEST(T5Config, HeadsOfBothSpellings) {
  const auto head = [](const Json& config, bool has_head) {
    const HasTensor has = [&](const std::string& name) {
      return name != "lm_head.weight" || has_head;
    };
    return t5(config, has)->stages().back().linears[0];
  };
  const Json base = config_of("t5-v1.0");
  EXPECT_EQ(head(base, false).weight, "shared.weight");
  EXPECT_EQ(head(base, true).weight, "shared.weight") << "a redundant copy";
  EXPECT_EQ(head(with(base, {{"tie_word_embeddings", false}}), true).weight, "lm_head.weight");
  EXPECT_EQ(head(with(base, {{"tie_word_embeddings", false}}), false).weight, "lm_head.weight")
      << "it is missed, not replaced";
  const Json v5 = with(base, {{"tie_word_embeddings", true}, {"scale_decoder_outputs", false}});
  EXPECT_EQ(head(v5, true).weight, "lm_head.weight");
  EXPECT_EQ(head(v5, false).weight, "shared.weight");
  EXPECT_EQ(head(base, false).name, "lm_head");
}

TEST(T5Config, TiedTensors) {
  const auto aliases = [](const Model& model) {
    std::vector<std::string> names;
    for (const auto& [alias, canonical] : model.tied_tensors()) {
      EXPECT_EQ(canonical, model.stages()[0].tensors[0].name);
      names.push_back(alias);
    }
    return names;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(
      aliases(*t5(config_of("t5-v1.0"))),
      (Names{"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}));
  EXPECT_EQ(aliases(*t5(config_of("t5-v1.1"))),
            (Names{"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}));
  // A file that names the shared tensor otherwise.
  const auto other = t5(config_of("t5-v1.1"), [](const std::string& name) {
    return name == "decoder.embed_tokens.weight";
  });
  EXPECT_EQ(aliases(*other), (Names{"shared.weight", "encoder.embed_tokens.weight"}));
}

TEST(T5Config, MultilingualDefaults) {
  Json config = config_of("t5-v1.1");
  config.erase("feed_forward_proj");
  EXPECT_EQ(t5(config)->stages()[1].linears.size(), 6U) << "relu";
  EXPECT_EQ(make(mt5_family(), config)->stages()[1].linears.size(), 7U) << "gated-gelu";
}

TEST(T5Config, UnsupportedOrContradictory) {
  const auto refused = [](const Json& changes, const std::string& part) {
    expect_error<InputError>([&] { t5(with(config_of("t5-v1.1"), changes)); },
                             "config.json: " + part);
  };
  refused({{"feed_forward_proj", "gated-tanh"}},
          "feed_forward_proj 'gated-tanh' is not supported; supported, also behind 'gated-': relu");
  refused({{"feed_forward_proj", "double-gated-gelu"}}, "feed_forward_proj 'double-gated-gelu'");
  refused({{"dense_act_fn", "relu"}},
          "feed_forward_proj 'gated-gelu' contradicts dense_act_fn (relu)");
  refused({{"is_gated_act", false}},
          "feed_forward_proj 'gated-gelu' contradicts is_gated_act (false)");
  refused({{"relative_attention_num_buckets", 2}},
          "relative_attention_num_buckets must be at least 4, found 2");
  refused({{"relative_attention_max_distance", 16}},
          "relative_attention_max_distance (16) must be larger than half of "
          "relative_attention_num_buckets (32)");
  refused({{"num_heads", 0}}, "'num_heads' must be 1 to");
  refused({{"num_layers", 10001}}, "'num_layers' is 10001; at most 10000");
  refused({{"num_decoder_layers", 0}}, "'num_decoder_layers' must be 1 to");
  refused({{"layer_norm_epsilon", -1.0}}, "layer_norm_epsilon must not be negative");
  expect_error<InputError>([] { t5(with(config_of("t5-v1.1"), {{"d_ff", nullptr}})); }, "'d_ff'");
}

TEST(WhisperConfig, SitesAndNames) {
  const auto model = make(whisper_family(), config_of("whisper"));
  const StageSpec& layer = stage(*model, "encoder layer 1");
  ASSERT_EQ(layer.linears.size(), 6U);
  EXPECT_EQ(layer.linears[1].name, "model.encoder.layers.1.self_attn.k_proj");
  EXPECT_EQ(layer.linears[1].bias, "");
  EXPECT_EQ(layer.linears[0].bias, "model.encoder.layers.1.self_attn.q_proj.bias");
  EXPECT_EQ(layer.linears[3].trtllm, "attention.dense");
  for (const LinearSite& site : layer.linears) EXPECT_TRUE(site.of_encoder) << site.name;
  ASSERT_EQ(layer.norms.size(), 1U) << "fc1 is the only reader of its norm";
  EXPECT_EQ(layer.norms[0].bias, "model.encoder.layers.1.self_attn_layer_norm.bias");
  const StageSpec& head = model->stages().back();
  EXPECT_EQ(head.linears[0].name, "proj_out");
  EXPECT_EQ(head.linears[0].weight, "model.decoder.embed_tokens.weight");
  EXPECT_EQ(model->tied_tensors().at(0).first, "proj_out.weight");
  EXPECT_EQ(model->max_positions(), 40);

  const auto untied =
      make(whisper_family(), with(config_of("whisper"), {{"tie_word_embeddings", false}}));
  EXPECT_EQ(untied->stages().back().linears[0].weight, "proj_out.weight");
  EXPECT_TRUE(untied->tied_tensors().empty());
}

TEST(WhisperConfig, UnsupportedOrContradictory) {
  const auto refused = [](const Json& changes, const std::string& part) {
    expect_error<InputError>([&] { make(whisper_family(), with(config_of("whisper"), changes)); },
                             "config.json: " + part);
  };
  refused({{"activation_function", "tanh"}}, "activation_function 'tanh' is not supported");
  refused({{"decoder_attention_heads", 5}},
          "d_model (64) must be a multiple of decoder_attention_heads (5)");
  refused({{"encoder_layers", -1}}, "'encoder_layers' must be 1 to");
  refused({{"max_source_positions", 0}}, "'max_source_positions' must be 1 to");
}

TEST(WhisperConfig, InputsOfOtherSizes) {
  const Checkpoint source(data_folder() / "archs" / "whisper");
  const auto model = make_model(source);
  const auto run = [&](size_t stage, const States& states) {
    BatchContext batch;
    PlainRunner runner;
    model->forward(stage, {}, weights_of_stage(source, model->stages()[stage], at::kFloat), states,
                   batch, runner);
  };
  const at::Tensor ids = at::zeros({1, 4}, at::kLong);
  run(0, {ids, at::zeros({1, 20, 64})});
  expect_error<InputError>(
      [&] {
        run(0, {ids, at::zeros({1, 20, 62})});
      },
      "[batch, 20, 64] features (num_mel_bins, 2 * max_source_positions of '");
  expect_error<InputError>([&] { run(0, {ids, at::zeros({1, 80, 64})}); }, "found [1, 80, 64]");
  expect_error<InputError>(
      [&] {
        run(3, {at::zeros({1, 41}, at::kLong), at::zeros({1, 32, 64})});
      },
      "at most 40 tokens (max_target_positions of '");
}

}  // namespace
}  // namespace halftone::test
