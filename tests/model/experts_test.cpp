// Mixtures of experts whose tensors are stacked, on a small gpt-oss.
#include <gtest/gtest.h>

#include <limits>

#include "core/log.h"
#include "model/blocks.h"
#include "model/family.h"
#include "model/source_layout.h"
#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

// Counts the rows that each linear gets.
class RowCounter : public PlainRunner {
 public:
  explicit RowCounter(const StageSpec& stage) : rows_(stage.linears.size()) {}
  at::Tensor linear(size_t site, const at::Tensor& x, const at::Tensor& w_NK,
                    const at::Tensor& bias_N) override {
    rows_[site] += x.numel() / x.size(-1);
    return PlainRunner::linear(site, x, w_NK, bias_N);
  }
  int64_t rows(size_t site) const { return rows_[site]; }

 private:
  std::vector<int64_t> rows_;
};

class StackedExperts : public testing::Test {
 protected:
  StackedExperts() {
    config_ = {{"architectures", {"GptOssForCausalLM"}},
               {"hidden_size", 32},
               {"intermediate_size", 24},
               {"num_hidden_layers", 2},
               {"num_attention_heads", 4},
               {"num_key_value_heads", 2},
               {"head_dim", 8},
               {"vocab_size", 40},
               {"num_local_experts", 5},
               {"num_experts_per_tok", 2},
               {"sliding_window", 6},
               {"torch_dtype", "float32"}};
    model_ = gpt_oss_family().make({config_, "config.json", {}});
    tensors_ = tiny_tensors(*model_, at::kFloat);
    ids_BT_ = at::arange(24, at::kLong).view({2, 12});
  }

  std::vector<at::Tensor> run(const BatchContext& batch, int64_t group = 0) {
    write_checkpoint(folder_.path(), config_, tensors_);
    const Checkpoint checkpoint(folder_.path());
    const std::unique_ptr<Model> model = make_model(checkpoint);
    SourceLayout(checkpoint, *model);
    PlainRunner runner;
    return run_stages(checkpoint, *model, ids_BT_, batch, at::kFloat, runner, group);
  }

  TemporaryFolder folder_;
  Json config_;
  std::unique_ptr<Model> model_;
  Tensors tensors_;
  at::Tensor ids_BT_;
  BatchContext batch_{{{0, 12}, {5, 12}}, 12, true};
};

TEST_F(StackedExperts, OneLayerWrittenOut) {
  // One expert for all tokens: the others are out of the router's reach.
  config_["num_experts_per_tok"] = 1;
  for (const char* layer : {"0", "1"}) {
    at::Tensor& bias = tensors_.at(concat("model.layers.", layer, ".mlp.router.bias"));
    bias.fill_(-1e4);
    bias[3].fill_(0.0);
  }
  const std::vector<at::Tensor> outputs = run({{{0, 12}, {0, 12}}, 12, false});
  const auto tensor = [&](const std::string& name) {
    return tensors_.at("model.layers.1." + name);
  };
  // Without attention: o_proj gives 0.
  tensor("self_attn.o_proj.weight").zero_();
  tensor("self_attn.o_proj.bias").zero_();
  const std::vector<at::Tensor> bare = run({{{0, 12}, {0, 12}}, 12, false});
  const at::Tensor x = rms_norm(bare[1], tensor("post_attention_layernorm.weight"), 1e-5);
  const at::Tensor both = at::matmul(x, tensor("mlp.experts.gate_up_proj")[3]) +
                          tensor("mlp.experts.gate_up_proj_bias")[3];
  const at::Tensor gate = both.slice(-1, 0, 48, 2).clamp_max(7.0);
  const at::Tensor up = both.slice(-1, 1, 48, 2).clamp(-7.0, 7.0);
  const at::Tensor y =
      at::matmul((up + 1) * gate * at::sigmoid(1.702 * gate), tensor("mlp.experts.down_proj")[3]) +
      tensor("mlp.experts.down_proj_bias")[3];
  EXPECT_LE(relative_error(bare[2], bare[1] + y), 1e-6);
  EXPECT_GT(relative_error(outputs[2], bare[2]), 1e-2) << "attention matters";
}

TEST_F(StackedExperts, InGroupsTheSameBitForBit) {
  const std::vector<at::Tensor> whole = run(batch_);
  for (const int64_t group : {1, 2, 3}) {
    const std::vector<at::Tensor> parts = run(batch_, group);
    for (size_t i = 0; i < whole.size(); ++i) EXPECT_TRUE(at::equal(whole[i], parts[i])) << i;
  }
}

TEST_F(StackedExperts, PartsLeaveTheStatesThatTheyGotAsTheyWere) {
  write_checkpoint(folder_.path(), config_, tensors_);
  const Checkpoint checkpoint(folder_.path());
  model_->prepare(12, at::kFloat, at::kCPU);
  PlainRunner runner;
  const StageSpec& stage = model_->stages()[1];
  const auto forward = [&](const StagePart& part, const States& states) {
    return model_->forward(1, part, weights_of_stage(checkpoint, stage, at::kFloat, part), states,
                           batch_, runner);
  };
  const States input{numbers({2, 12, 32}, 9), {}};
  const States begun = forward({true, false, 0, 2}, input);
  const at::Tensor sum = begun.experts.sum_TH.clone();
  const States once = forward({false, true, 2, 5}, begun);
  EXPECT_TRUE(at::equal(begun.experts.sum_TH, sum));
  EXPECT_TRUE(at::equal(forward({false, true, 2, 5}, begun).x, once.x)) << "a second try";
  EXPECT_FALSE(once.experts.sum_TH.defined()) << "nothing is left behind";
}

TEST_F(StackedExperts, ObservedOnesGetRowsAndGiveNothing) {
  // Expert 0 is never chosen, and what it gives is infinite.
  tensors_.at("model.layers.0.mlp.router.bias")[0].fill_(-1e4);
  tensors_.at("model.layers.0.mlp.experts.down_proj")[0].fill_(
      std::numeric_limits<float>::infinity());
  const std::vector<at::Tensor> plain = run(batch_);
  batch_.observed_experts = 1.0;
  const std::vector<at::Tensor> observed = run(batch_);
  EXPECT_TRUE(observed[1].isfinite().all().item<bool>());
  EXPECT_LE(relative_error(observed[1], plain[1]), 1e-6);

  const Checkpoint checkpoint(folder_.path());
  const StageSpec& stage = model_->stages()[1];
  const auto rows = [&](double share) {
    batch_.observed_experts = share;
    RowCounter counter(stage);
    model_->prepare(12, at::kFloat, at::kCPU);
    model_->forward(1, {}, weights_of_stage(checkpoint, stage, at::kFloat),
                    {numbers({2, 12, 32}, 9), {}}, batch_, counter);
    int64_t total = 0;
    for (size_t i = 0; i < stage.linears.size(); ++i) {
      if (stage.linears[i].expert >= 0) total += counter.rows(i);
    }
    return total;
  };
  const int64_t tokens = 12 + 7;
  EXPECT_EQ(rows(0.0), 2 * 2 * tokens);
  EXPECT_EQ(rows(0.2), 2 * 2 * tokens) << "no fewer than those it is routed to";
  EXPECT_EQ(rows(0.6), 2 * 3 * tokens);
  EXPECT_EQ(rows(1.0), 2 * 5 * tokens);
}

TEST_F(StackedExperts, RotaryEmbeddingOfTheFamily) {
  const at::Tensor silent = run(batch_).back();
  config_["rope_theta"] = 150000;
  config_["rope_scaling"] = {{"rope_type", "yarn"},
                             {"factor", 32.0},
                             {"truncate", false},
                             {"original_max_position_embeddings", 4096}};
  EXPECT_TRUE(at::equal(run(batch_).back(), silent));
  config_["rope_scaling"] = {{"rope_type", "default"}};
  EXPECT_FALSE(at::equal(run(batch_).back(), silent));
}

}  // namespace
}  // namespace halftone::test
