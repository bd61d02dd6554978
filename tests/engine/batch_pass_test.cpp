#include "engine/batch_pass.h"

#include <gtest/gtest.h>

#include <atomic>

#include "dist/reductions.h"
#include "engine/calibration_pass.h"
#include "engine/sqnr.h"
#include "formats/codecs.h"
#include "tests/engine/test_cluster.h"

namespace halftone::test {
namespace {

class PassTest : public testing::Test {
 protected:
  PassTest()
      : model_(tiny_model(tiny_config())),
        checkpoint_(shared_checkpoint(folder_, tiny_config(), tiny_tensors(*model_))) {}

  CalibrationOptions observe_layers(bool inputs, bool key_value) const {
    CalibrationOptions options;
    options.show_progress = false;
    options.observe.assign(model_->stages().size(), ObserveOptions::nothing());
    for (const size_t stage : {1u, 2u}) {
      options.observe[stage].inputs = inputs;
      options.observe[stage].key_value = key_value;
    }
    return options;
  }

  SharedFolder folder_;
  std::unique_ptr<Model> model_;
  Checkpoint checkpoint_;
};

TEST(BatchContexts, RangesOfTheRealTokens) {
  const auto batches = tiny_batches(3, 3, PadSide::kLeft);  // 5, 8 and 11 tokens
  const BatchContext left = context_of_batch(batches[0]);
  EXPECT_EQ(left.length, 11);
  EXPECT_TRUE(left.padded);
  EXPECT_EQ(left.tokens[0].begin, 6);
  EXPECT_EQ(left.tokens[0].end, 11);
  EXPECT_EQ(left.tokens[2].begin, 0);
  const BatchContext right = context_of_batch(tiny_batches(3, 3, PadSide::kRight)[0]);
  EXPECT_EQ(right.tokens[0].begin, 0);
  EXPECT_EQ(right.tokens[0].end, 5);
  EXPECT_FALSE(context_of_batch(tiny_batches(1, 1, PadSide::kLeft)[0]).padded);
  Batch empty{1, 3, {0, 0, 0}, {0, 0, 0}};
  EXPECT_EQ(context_of_batch(empty).tokens[0].end - context_of_batch(empty).tokens[0].begin, 0);
}

TEST_F(PassTest, HiddenStatesDoNotDependOnThreadsOrRanks) {
  for (const int threads : {1, 3}) {
    TestCluster cluster(threads);
    const auto batches = tiny_batches(11, 2, PadSide::kLeft);
    model_->prepare(batches[0].length, at::kBFloat16, at::kCPU);
    BatchPass pass(*model_, batches, {}, cluster.get());
    std::vector<int64_t> order;
    for (size_t s = 0; s < model_->stages().size(); ++s) {
      order.clear();
      pass.forward(
          s, {}, weights_of_stage(checkpoint_, model_->stages()[s], at::kBFloat16),
          [](int64_t, const BatchContext&) { return std::make_unique<PlainRunner>(); },
          [&](int64_t batch, LinearRunner&) { order.push_back(batch); });
    }
    EXPECT_EQ(order, pass.mine()) << "in batch order";
    // Each batch computed alone by every rank.
    for (size_t position = 0; position < pass.mine().size(); ++position) {
      const int64_t index = pass.mine()[position];
      const Batch& batch = batches[static_cast<size_t>(index)];
      at::Tensor ids = at::empty({batch.rows, batch.length}, at::kLong);
      std::copy(batch.input_ids.begin(), batch.input_ids.end(), ids.mutable_data_ptr<int64_t>());
      const auto alone = run_stages(checkpoint_, *model_, ids, pass.context(index), at::kBFloat16);
      EXPECT_TRUE(at::equal(pass.states(position).x, alone.back())) << index;
    }
  }
}

TEST_F(PassTest, ErrorsOfWorkersReachTheCaller) {
  TestCluster cluster(3);
  BatchPass pass(*model_, tiny_batches(12, 1, PadSide::kLeft), {}, cluster.get());
  expect_error<InputError>(
      [&] {
        pass.for_each_batch(
            [&](int64_t batch, size_t) { throw InputError("batch " + std::to_string(batch)); });
      },
      "batch " + std::to_string(cluster.rank()));
}

TEST_F(PassTest, CalibrationEqualsAPassByHand) {
  const auto batches = tiny_batches(9, 2, PadSide::kLeft);
  TestCluster cluster;
  CalibrationOptions options = observe_layers(true, true);
  std::vector<StageStatistics> seen;
  run_calibration(SourceLayout(checkpoint_, *model_), *model_, batches, options, cluster.get(),
                  [&](const CalibratedStage& stage) -> std::optional<ServedStage> {
                    EXPECT_EQ(stage.index, seen.size());
                    EXPECT_EQ(stage.inputs, nullptr);
                    seen.push_back(stage.statistics);
                    return std::nullopt;
                  });
  ASSERT_EQ(seen.size(), 4u);

  std::vector<StageStatistics> expected;
  for (const StageSpec& stage : model_->stages()) expected.push_back(unseen_statistics(stage));
  for (size_t b = 0; b < batches.size(); ++b) {
    at::Tensor x = at::empty({batches[b].rows, batches[b].length}, at::kLong);
    std::copy(batches[b].input_ids.begin(), batches[b].input_ids.end(),
              x.mutable_data_ptr<int64_t>());
    const BatchContext context = context_of_batch(batches[b]);
    for (size_t s = 0; s < 3; ++s) {
      Observer observer(model_->stages()[s], context, 0, options.observe[s]);
      x = model_
              ->forward(s, {}, weights_of_stage(checkpoint_, model_->stages()[s], at::kBFloat16),
                        {x, {}}, context, observer)
              .x;
      expected[s].merge(static_cast<int64_t>(b), observer.statistics());
    }
  }
  for (size_t s = 0; s < 4; ++s) {
    EXPECT_EQ(seen[s].input_amax, expected[s].input_amax) << s;
    for (size_t i = 0; i < seen[s].channel_amax.size(); ++i) {
      EXPECT_TRUE(at::equal(seen[s].channel_amax[i], expected[s].channel_amax[i])) << s;
    }
    ASSERT_EQ(seen[s].keys.size(), expected[s].keys.size());
    for (size_t i = 0; i < seen[s].keys.size(); ++i) {
      EXPECT_EQ(seen[s].keys[i].amax, expected[s].keys[i].amax) << s;
      EXPECT_TRUE(at::equal(seen[s].keys[i].smallest, expected[s].keys[i].smallest)) << s;
      EXPECT_EQ(seen[s].values[i].amax, expected[s].values[i].amax) << s;
    }
    EXPECT_EQ(seen[s].tokens, expected[s].tokens) << s;
  }
  EXPECT_GT(seen[1].input_amax[0], 0.0f);
}

TEST_F(PassTest, NothingIsComputedWhenNothingIsObserved) {
  TestCluster cluster;
  // Ids outside of the vocabulary would fail in the embedding.
  Batch impossible{1, 2, {1000000, 1}, {1, 1}};
  size_t stages = 0;
  run_calibration(SourceLayout(checkpoint_, *model_), *model_, {impossible},
                  observe_layers(false, false), cluster.get(),
                  [&](const CalibratedStage& stage) -> std::optional<ServedStage> {
                    ++stages;
                    for (const float amax : stage.statistics.input_amax) {
                      EXPECT_EQ(amax, MaxBucket::kAbsent);
                    }
                    EXPECT_FALSE(stage.tensor_amax.empty());
                    return std::nullopt;
                  });
  EXPECT_EQ(stages, 4u);
  if (cluster.size() == 1) {
    EXPECT_ANY_THROW(run_calibration(SourceLayout(checkpoint_, *model_), *model_, {impossible},
                                     observe_layers(true, false), cluster.get(),
                                     [](const CalibratedStage&) { return std::nullopt; }));
  }
}

TEST_F(PassTest, ErrorsNameTheirPhase) {
  TestCluster cluster;
  expect_error<UsageError>(
      [&] {
        run_calibration(SourceLayout(checkpoint_, *model_), *model_, {},
                        observe_layers(false, false), cluster.get(),
                        [](const CalibratedStage& stage) -> std::optional<ServedStage> {
                          if (stage.index == 2) throw UsageError("stop");
                          return std::nullopt;
                        });
      },
      "calibrate layer 1: stop");
}

TEST(RoundTo, TheModelsDtype) {
  EXPECT_EQ(round_to(1.0f + 1.0f / 512, DType::kBF16), 1.0f);
  EXPECT_EQ(round_to(1.0f + 3.0f / 512, DType::kBF16), 1.0078125f);
  EXPECT_EQ(round_to(0.1f, DType::kF32), 0.1f);
  EXPECT_EQ(round_to(70000.0f, DType::kF16), INFINITY);
}

// Weights of more rows than a piece, of a number that no piece divides.
TEST(Sqnr, AgainstPlainSums) {
  ThreadPool one(1);
  ThreadPool three(3);
  const auto codecs = {make_int8_codec(),         make_fp8_rows_codec(), make_fp8_codec(),
                       make_fp8_tiles_codec(128), make_mxfp8_codec(),    make_nf4_codec(224)};
  for (const auto& codec : codecs) {
    const at::Tensor w = numbers({300, 64}, 1).to(at::kBFloat16);
    WeightScales scales;
    scales.amax = w.abs().max().item<float>();
    const PackedLinear packed = codec->pack(w, scales, Numerics::kCpu, nullptr);
    const at::Tensor wide = w.to(at::kDouble);
    const at::Tensor noise = wide - codec->unpack(packed, at::kFloat, nullptr);
    const double expected =
        10.0 * std::log10(wide.pow(2).sum().item<double>() / noise.pow(2).sum().item<double>());
    EXPECT_NEAR(sqnr_db(w, *codec, packed, one).get<double>(), expected, 2e-3) << codec->name();
    EXPECT_EQ(sqnr_db(w, *codec, packed, one), sqnr_db(w, *codec, packed, three));
    EXPECT_TRUE(sqnr_db(codec->unpack(packed, at::kFloat, nullptr), *codec, packed, one).is_null());
    EXPECT_TRUE(sqnr_db(at::zeros({300, 64}), *codec, packed, one).is_null());
  }
}

}  // namespace
}  // namespace halftone::test
