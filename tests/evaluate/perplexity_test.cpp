#include "evaluate/tasks/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>

#include "tests/engine/test_cluster.h"

namespace halftone::test {
namespace {

class PerplexityTest : public testing::Test {
 protected:
  PerplexityTest() : model_(tiny_model(tiny_config())), tensors_(tiny_tensors(*model_)) {}

  Perplexity evaluate(const std::vector<Batch>& batches, int threads = 2) {
    TestCluster cluster(threads);
    const Checkpoint checkpoint = shared_checkpoint(folder_, tiny_config(), tensors_);
    const SourceLayout layout(checkpoint, *model_);
    const auto source = make_original_source(layout);
    return evaluate_perplexity(checkpoint, *model_, *source, batches,
                               {DType::kF32, INT64_MAX, false}, cluster.get());
  }

  // The nll of one sequence after the other, each alone, summed in FP64.
  Perplexity by_hand(const std::vector<Batch>& batches) {
    const Checkpoint checkpoint = shared_checkpoint(folder_, tiny_config(), tensors_);
    Perplexity sum;
    for (const Batch& batch : batches) {
      for (int64_t row = 0; row < batch.rows; ++row) {
        std::vector<int64_t> ids;
        for (int64_t t = 0; t < batch.length; ++t) {
          const auto at = static_cast<size_t>(row * batch.length + t);
          if (batch.mask[at] != 0) ids.push_back(batch.input_ids[at]);
        }
        const auto length = static_cast<int64_t>(ids.size());
        if (length < 2) continue;
        const at::Tensor logits =
            run_stages(checkpoint, *model_, at::tensor(ids, at::kLong).unsqueeze(0),
                       {{{0, length}}, length, false}, at::kFloat)
                .back()[0]
                .to(at::kDouble);
        for (int64_t t = 0; t + 1 < length; ++t) {
          const double normalizer = logits[t].exp().sum().log().item<double>();
          sum.nll += normalizer - logits[t][ids[static_cast<size_t>(t + 1)]].item<double>();
          ++sum.tokens;
        }
      }
    }
    sum.nll /= static_cast<double>(sum.tokens);
    sum.value = std::exp(sum.nll);
    return sum;
  }

  SharedFolder folder_;
  std::unique_ptr<Model> model_;
  Tensors tensors_;
};

TEST_F(PerplexityTest, AgainstAComputationByHand) {
  for (const PadSide side : {PadSide::kRight, PadSide::kLeft}) {
    const auto batches = tiny_batches(9, 2, side);
    const Perplexity expected = by_hand(batches);
    const Perplexity found = evaluate(batches);
    EXPECT_EQ(found.tokens, expected.tokens);
    EXPECT_NEAR(found.nll, expected.nll, 1e-5);
    EXPECT_NEAR(found.value, expected.value, 1e-4 * expected.value);
    EXPECT_GT(std::abs(expected.nll - std::log(40.0)), 1e-2) << "the model must say something";
  }
}

TEST_F(PerplexityTest, NothingDependsOnThreads) {
  const auto batches = tiny_batches(9, 2, PadSide::kRight);
  EXPECT_EQ(evaluate(batches, 1).value, evaluate(batches, 3).value);
}

// The tests run with 1, 2 and 4 ranks.
TEST_F(PerplexityTest, NothingDependsOnRanks) {
  const auto batches = tiny_batches(9, 2, PadSide::kRight);
  const double found = evaluate(batches).nll;
  // Batch by batch, each evaluated by rank 0 and added in batch order.
  double sum = 0.0;
  int64_t tokens = 0;
  for (const Batch& batch : batches) {
    const Perplexity one = evaluate({batch});
    sum += one.nll * static_cast<double>(one.tokens);
    tokens += one.tokens;
  }
  EXPECT_NEAR(found, sum / static_cast<double>(tokens), 1e-12);
}

TEST_F(PerplexityTest, AUniformModelHasThePerplexityOfItsVocabulary) {
  tensors_["lm_head.weight"].zero_();
  const Perplexity found = evaluate(tiny_batches(4, 2, PadSide::kRight));
  EXPECT_NEAR(found.value, 40.0, 1e-4);
}

TEST_F(PerplexityTest, OneTokenPredictsNothing) {
  Batch single{2, 1, {3, 4}, {1, 1}};
  expect_error<InputError>([&] { evaluate({single}); }, "no sample has two tokens");
  Batch both{2, 3, {3, 0, 0, 4, 5, 6}, {1, 0, 0, 1, 1, 1}};
  EXPECT_EQ(evaluate({both}).tokens, 2);
}

}  // namespace
}  // namespace halftone::test
