// A pass in which memory does not suffice for whole batches gives what it gives with them.
#include <gtest/gtest.h>

#include <atomic>
#include <new>

#include "core/error.h"
#include "engine/calibration_pass.h"
#include "engine/out_of_memory.h"
#include "model/family.h"
#include "tests/engine/test_cluster.h"

namespace halftone::test {
namespace {

// Runs out of memory above so many rows, or when batches are computed at once.
class LimitedModel : public Model {
 public:
  explicit LimitedModel(Model& inner) : inner_(inner) {}

  const std::vector<StageSpec>& stages() const override { return inner_.stages(); }
  int64_t hidden_size() const override { return inner_.hidden_size(); }
  int64_t vocabulary() const override { return inner_.vocabulary(); }
  int64_t max_positions() const override { return inner_.max_positions(); }
  std::vector<std::pair<std::string, std::string>> tied_tensors() const override {
    return inner_.tied_tensors();
  }
  bool has_encoder() const override { return inner_.has_encoder(); }
  void prepare(int64_t length, at::ScalarType dtype, at::Device device) override {
    inner_.prepare(length, dtype, device);
  }
  States forward(size_t stage, const StagePart& part, const StageWeights& weights, States states,
                 const BatchContext& batch, LinearRunner& runner) const override {
    ++calls;
    if (std::ssize(batch.tokens) > rows) throw std::bad_alloc();
    const bool alone = at_once++ == 0;
    if (!alone && fails_together) {
      --at_once;
      throw std::bad_alloc();
    }
    States result = inner_.forward(stage, part, weights, std::move(states), batch, runner);
    --at_once;
    largest = std::max<int64_t>(largest, std::ssize(batch.tokens));
    return result;
  }

  int64_t rows = INT64_MAX;
  bool fails_together = false;
  mutable std::atomic<int64_t> at_once{0};
  mutable std::atomic<int64_t> calls{0};
  mutable int64_t largest = 0;

 private:
  Model& inner_;
};

struct Calibrated {
  std::vector<StageStatistics> statistics;
  std::vector<CapturedInputs> inputs;
  int64_t rows_per_call = 0;
};

// Rows of 3 to 11 tokens; encoders read as many ids.
std::vector<Batch> uneven_batches(bool encoder, int64_t rows) {
  std::vector<Sample> samples;
  for (int64_t i = 0; i < 16; ++i) {
    Sample sample;
    for (int64_t t = 0; t < 3 + i * 5 % 9; ++t) {
      sample.ids.push_back(static_cast<TokenId>(2 + (i * 11 + t * 7) % 30));
      if (encoder) sample.decoder_ids.push_back(static_cast<TokenId>(2 + (i * 5 + t * 3) % 30));
    }
    samples.push_back(sample);
  }
  return make_batches(samples, rows, 0, PadSide::kLeft, true);
}

class RowsTest : public testing::TestWithParam<const char*> {
 protected:
  RowsTest()
      : checkpoint_(data_folder() / "archs" / GetParam()),
        inner_(make_model(checkpoint_)),
        model_(*inner_) {}

  Calibrated calibrate(int64_t stage_limit, int threads = 1) {
    TestCluster cluster(threads);
    CalibrationOptions options;
    options.compute_dtype = DType::kF32;
    options.show_progress = false;
    options.stage_limit = stage_limit;
    options.observe.assign(model_.stages().size(), {true, true, true, true, false, false});
    Calibrated result;
    const CalibrationTimes times = run_calibration(
        SourceLayout(checkpoint_, model_), model_, uneven_batches(model_.has_encoder(), 4), options,
        cluster.get(), [&](const CalibratedStage& seen) -> std::optional<ServedStage> {
          result.statistics.push_back(seen.statistics);
          result.inputs.push_back(*seen.inputs);
          return std::nullopt;
        });
    result.rows_per_call = times.rows_per_call;
    return result;
  }

  Checkpoint checkpoint_;
  std::unique_ptr<Model> inner_;
  LimitedModel model_;
};

void expect_near(const at::Tensor& one, const at::Tensor& other, const std::string& what) {
  ASSERT_EQ(one.defined(), other.defined()) << what;
  if (!one.defined()) return;
  ASSERT_EQ(one.sizes(), other.sizes()) << what;
  if (one.numel() == 0) return;
  const auto size = one.abs().max().item<double>();
  EXPECT_LE((one - other).abs().max().item<double>(), 1e-5 * size) << what;
}

void expect_same(const Calibrated& one, const Calibrated& other,
                 const std::vector<StageSpec>& stages) {
  for (size_t s = 0; s < stages.size(); ++s) {
    const StageStatistics& a = one.statistics[s];
    const StageStatistics& b = other.statistics[s];
    EXPECT_EQ(a.tokens, b.tokens) << stages[s].name;
    for (size_t i = 0; i < stages[s].linears.size(); ++i) {
      const std::string& name = stages[s].linears[i].name;
      EXPECT_NEAR(a.input_amax[i], b.input_amax[i], 1e-5f * std::abs(a.input_amax[i])) << name;
      expect_near(a.channel_amax[i], b.channel_amax[i], name);
      expect_near(a.mean_abs[i], b.mean_abs[i], name);
      for (size_t p = 0; p < one.inputs[s].inputs.size(); ++p) {
        const std::vector<at::Tensor>& mine = one.inputs[s].inputs[p];
        const std::vector<at::Tensor>& theirs = other.inputs[s].inputs[p];
        expect_near(mine[i], theirs[i], name);
        if (i == 0 || !mine[i].defined()) continue;
        EXPECT_EQ(mine[i].is_same(mine[i - 1]), theirs[i].is_same(theirs[i - 1])) << name;
      }
    }
    for (size_t i = 0; i < a.keys.size(); ++i) {
      EXPECT_NEAR(a.keys[i].amax, b.keys[i].amax, 1e-5f * a.keys[i].amax);
      expect_near(a.keys[i].mean, b.keys[i].mean, "keys");
      expect_near(a.values[i].mean, b.values[i].mean, "values");
      expect_near(a.values[i].smallest, b.values[i].smallest, "values");
    }
  }
}

TEST_P(RowsTest, FewerRowsAtATimeGiveTheSame) {
  for (const int64_t limit : {INT64_MAX, int64_t{20000}}) {
    model_.rows = INT64_MAX;
    const Calibrated whole = calibrate(limit);
    EXPECT_EQ(whole.rows_per_call, INT64_MAX);
    for (const int64_t rows : {3, 2, 1}) {
      model_.rows = rows;
      model_.largest = 0;
      model_.calls = 0;
      const Calibrated parts = calibrate(limit);
      // Halved from four.
      EXPECT_EQ(parts.rows_per_call, std::min<int64_t>(rows, 2));
      EXPECT_EQ(model_.largest, parts.rows_per_call);
      expect_same(whole, parts, model_.stages());
    }
  }
}

TEST_P(RowsTest, WhatSufficedOnceIsRemembered) {
  model_.rows = 1;
  const Calibrated parts = calibrate(INT64_MAX);
  EXPECT_EQ(parts.rows_per_call, 1);
  // In the first stage each batch fails with four rows and with two, later none.
  const auto batches = std::ssize(parts.inputs[0].batches);
  const auto stages = std::ssize(model_.stages());
  EXPECT_EQ(model_.calls, 2 * batches + 4 * batches * stages);
}

TEST_P(RowsTest, FewerBatchesAtOnceComeFirst) {
  const Calibrated whole = calibrate(INT64_MAX);
  model_.fails_together = true;
  const Calibrated alone = calibrate(INT64_MAX, 3);
  EXPECT_EQ(alone.rows_per_call, INT64_MAX);
  expect_same(whole, alone, model_.stages());
}

TEST_P(RowsTest, ARowThatDoesNotFitAlone) {
  model_.rows = 0;
  expect_error<ResourceError>([&] { calibrate(INT64_MAX); }, "one row of");
}

INSTANTIATE_TEST_SUITE_P(Families, RowsTest,
                         testing::Values("llama-3.1", "mixtral-8x7b", "gpt-oss", "deepseek-v3",
                                         "t5-v1.1"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) {
                             if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
                           }
                           return name;
                         });

TEST(OutOfMemory, IsTold) {
  EXPECT_TRUE(is_out_of_memory(std::bad_alloc()));
  EXPECT_FALSE(is_out_of_memory(InputError("memory")));
  EXPECT_TRUE(is_out_of_memory(std::runtime_error("could not create a primitive")));
  try {
    // More than there are addresses.
    at::empty({int64_t{1} << 52}, at::kByte);
    FAIL();
  } catch (const std::exception& error) {
    EXPECT_TRUE(is_out_of_memory(error)) << error.what();
  }
}

}  // namespace
}  // namespace halftone::test
