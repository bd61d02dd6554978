// A layer that goes back in pieces gives the gradients of the layer as a whole.
#include "search/layer_backward.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "engine/batch_pass.h"
#include "model/family.h"
#include "search/gradients.h"
#include "tests/engine/test_cluster.h"

namespace halftone::test {
namespace {

class LayerBackwardTest : public testing::TestWithParam<const char*> {
 protected:
  LayerBackwardTest()
      : checkpoint_(fs::path(HALFTONE_TEST_DATA) / "archs" / GetParam()),
        model_(make_model(checkpoint_)),
        source_(checkpoint_, *model_),
        batch_(tiny_batches(2, 2, PadSide::kLeft)[0]) {
    model_->prepare(batch_.length, at::kFloat, at::kCPU);
    at::manual_seed(3);
  }

  StageWeights weights(size_t stage) {
    const Cluster cluster = cluster_.get();
    return weights_of(LoadedStage(source_.stages()[stage], checkpoint_, at::kCPU, cluster.pool),
                      at::kFloat);
  }

  at::Tensor random_hidden() const {
    return at::randn({batch_.rows, batch_.length, model_->hidden_size()}, at::kFloat);
  }

  TestCluster cluster_;
  Checkpoint checkpoint_;
  std::unique_ptr<Model> model_;
  SourceLayout source_;
  Batch batch_;
};

TEST_P(LayerBackwardTest, ExpertsInParts) {
  SearchSpace nothing;
  nothing.candidates.push_back({"none", std::nullopt});
  const std::vector<std::optional<CandidateStage>> candidates;
  PlainRunner plain;
  int layers = 0;
  for (size_t s = 0; s < model_->stages().size(); ++s) {
    const StageSpec& stage = model_->stages()[s];
    if (stage.kind != StageKind::kLayer) continue;
    ++layers;
    const StageWeights loaded = weights(s);
    ScoreUnit unit;
    unit.end = batch_.rows;
    unit.context = context_of_batch(batch_);
    unit.inputs.x = random_hidden();
    unit.gradients.x = random_hidden();

    const at::Tensor x = as_leaf(unit.inputs.x);
    const States out = model_->forward(s, {}, loaded, {x, {}}, unit.context, plain);
    const at::Tensor expected = gradients_of({out.x}, {unit.gradients.x}, {x})[0];

    const StageGroups groups(nothing, s);
    const LayerBackward layer(*model_, s, groups, candidates, ScoreRule::kElements, cluster_.get());
    std::vector<LayerBackward::ExpertWork> work;
    if (stage.experts > 0) {
      work.push_back(layer.begin(unit, loaded));
      const int64_t half = stage.experts / 2;
      layer.add_experts(unit, {false, false, half, stage.experts}, loaded, work[0]);
      layer.add_experts(unit, {false, false, 0, half}, loaded, work[0]);
    }
    std::vector<ScoreUnit> units;
    units.push_back(std::move(unit));
    layer.finish(units, work, loaded);
    const at::Tensor& found = units[0].gradients.x;
    ASSERT_TRUE(found.defined());
    EXPECT_TRUE(at::isfinite(found).all().item<bool>());
    const double error = (found - expected).abs().max().item<double>();
    EXPECT_LT(error, 1e-5 * expected.abs().max().item<double>()) << stage.name;
  }
  EXPECT_GT(layers, 0);
}

INSTANTIATE_TEST_SUITE_P(Families, LayerBackwardTest,
                         testing::Values("mixtral-8x7b", "llama4-scout", "gpt-oss", "deepseek-v3",
                                         "qwen2-moe", "phi3.5-moe", "gemma3-1b"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) {
                             if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
                           }
                           return name;
                         });

}  // namespace
}  // namespace halftone::test
