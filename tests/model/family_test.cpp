#include "model/family.h"

#include <gtest/gtest.h>

#include "model/source_layout.h"
#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

class FamilyTest : public testing::Test {
 protected:
  Checkpoint checkpoint(const Json& config) {
    if (tensors_.empty()) tensors_ = tiny_tensors(*tiny_model(tiny_config()));
    write_checkpoint(folder_.path(), config, tensors_);
    return Checkpoint(folder_.path());
  }
  Json with(const char* key, const Json& value) {
    Json config = tiny_config();
    config[key] = value;
    return config;
  }

  TemporaryFolder folder_;
  Tensors tensors_;
};

TEST_F(FamilyTest, Architectures) {
  EXPECT_EQ(family_of(checkpoint(tiny_config())).name, "llama");
  expect_error<InputError>(
      [&] { family_of(checkpoint(with("architectures", {"LlamaForCausalLn"}))); },
      "'LlamaForCausalLn' is not supported (did you mean 'LlamaForCausalLM'?)");
  for (const Json& wrong : {Json(nullptr), Json("LlamaForCausalLM"), Json::array(), Json({1})}) {
    expect_error<InputError>([&] { family_of(checkpoint(with("architectures", wrong))); },
                             "'architectures' must be a list");
  }
}

TEST_F(FamilyTest, Dtypes) {
  Json config = tiny_config();
  EXPECT_EQ(model_dtype(checkpoint(config)), DType::kBF16);
  config["dtype"] = "float16";
  EXPECT_EQ(model_dtype(checkpoint(config)), DType::kF16) << "dtype goes before torch_dtype";
  config["dtype"] = nullptr;
  config["torch_dtype"] = "float32";
  EXPECT_EQ(model_dtype(checkpoint(config)), DType::kF32);
  config["torch_dtype"] = "auto";
  EXPECT_EQ(model_dtype(checkpoint(config)), DType::kBF16) << "of the first tensor";
  config.erase("torch_dtype");
  config["text_config"] = {{"torch_dtype", "float16"}};
  EXPECT_EQ(model_dtype(checkpoint(config)), DType::kF16) << "of the text tower";
  config.erase("text_config");
  expect_error<InputError>([&] { model_dtype(checkpoint(with("dtype", "int8"))); },
                           "dtype 'int8' is not supported");
  expect_error<InputError>([&] { model_dtype(checkpoint(with("dtype", 16))); },
                           "'dtype' must be a string");
  tensors_ = {{"x", at::zeros({4}, at::kByte)}};
  expect_error<InputError>([&] { model_dtype(checkpoint(config)); }, "no floating tensor");
}

TEST_F(FamilyTest, TensorsThatDoNotFit) {
  const auto check = [&] {
    const Checkpoint source = checkpoint(tiny_config());
    const auto model = make_model(source);
    SourceLayout(source, *model);
  };
  check();
  const Tensors good = tensors_;
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  tensors_[name] = numbers({32, 48}, 1);
  expect_error<InputError>(check, "tensor '" + name + "'");
  expect_error<InputError>(check, "has shape [32, 48], but config.json asks for [48, 32]");
  tensors_[name] = at::zeros({48, 32}, at::kByte);
  expect_error<InputError>(check, "is U8; expected F32, F16 or BF16");
  tensors_ = good;
  tensors_.erase(name);
  expect_error<InputError>(check, name);
}

TEST_F(FamilyTest, TiedHeadUsesTheEmbedding) {
  const std::unique_ptr<Model> tied = tiny_model(with("tie_word_embeddings", true));
  const StageSpec& head = tied->stages().back();
  EXPECT_EQ(head.linears[0].name, "lm_head");
  EXPECT_EQ(head.linears[0].weight, "model.embed_tokens.weight");
  ASSERT_EQ(tied->tied_tensors().size(), 1u);
  EXPECT_EQ(tied->tied_tensors()[0].first, "lm_head.weight");

  // A copy of the embedding in an untied head computes the same.
  tensors_ = tiny_tensors(*tiny_model(tiny_config()));
  tensors_["lm_head.weight"] = tensors_["model.embed_tokens.weight"];
  const at::Tensor ids = at::arange(6, at::kLong).unsqueeze(0);
  const BatchContext batch{{{0, 6}}, 6, false};
  const Checkpoint source = checkpoint(tiny_config());
  const auto untied = tiny_model(tiny_config());
  EXPECT_TRUE(at::equal(run_stages(source, *tied, ids, batch, at::kFloat).back(),
                        run_stages(source, *untied, ids, batch, at::kFloat).back()));
}

TEST_F(FamilyTest, BiasesAreAdded) {
  Json config = tiny_config();
  config["attention_bias"] = true;
  config["mlp_bias"] = true;
  const std::unique_ptr<Model> model = tiny_model(config);
  tensors_ = tiny_tensors(*model);
  for (const LinearSite& linear : model->stages()[1].linears) {
    EXPECT_EQ(linear.bias, linear.name + ".bias");
    EXPECT_EQ(tensors_.at(linear.bias).size(0), linear.out);
  }
  const at::Tensor ids = at::arange(6, at::kLong).unsqueeze(0);
  const BatchContext batch{{{0, 6}}, 6, false};
  const auto run = [&](const Json& as) {
    const Checkpoint source = checkpoint(as);
    return run_stages(source, *tiny_model(as), ids, batch, at::kFloat).back();
  };
  const at::Tensor biased = run(config);
  const at::Tensor plain = run(tiny_config());
  EXPECT_GT(relative_error(biased, plain), 1e-2);
  for (auto& [name, tensor] : tensors_) {
    if (name.ends_with(".bias")) tensor.zero_();
  }
  EXPECT_TRUE(at::equal(run(config), plain));
}

}  // namespace
}  // namespace halftone::test
