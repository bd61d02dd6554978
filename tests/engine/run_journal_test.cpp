#include "engine/run_journal.h"

#include <gtest/gtest.h>

#include "engine/hidden_states.h"
#include "engine/quantize.h"
#include "model/family.h"
#include "tests/engine/quantize_run.h"

namespace halftone::test {
namespace {

class RunJournalTest : public testing::Test {
 protected:
  RunJournalTest()
      : model_(tiny_model(tiny_config())),
        checkpoint_(shared_checkpoint(folder_, tiny_config(), tiny_tensors(*model_))) {}

  fs::path workspace() const { return folder_.path() / "workspace"; }
  JournalOptions options(const std::string& recipe = "fp8") const {
    JournalOptions journal;
    journal.workspace = workspace();
    journal.identity = {{"recipe", recipe}, {"model", "tiny"}};
    journal.texts = {{"model_fingerprint", "tiny"}};
    journal.overhead = 1.0;
    return journal;
  }
  QuantizeResult run(const JournalOptions& journal_options, const std::string& out,
                     bool overwrite) {
    const std::unique_ptr<Model> model = make_model(checkpoint_);
    const SourceLayout source(checkpoint_, *model);
    const std::vector<Target> targets{make_target(source, *model, load_preset("fp8", "ptq"),
                                                  folder_.path() / out, int64_t{1} << 40)};
    QuantizeOptions options;
    options.compute_dtype = model_dtype(checkpoint_);
    options.show_progress = false;
    options.out = folder_.path() / out;
    options.overwrite = overwrite;
    RunJournal journal(journal_options, *model, cluster_.get());
    const QuantizeResult result =
        quantize(source, *model, targets, tiny_batches(7, 2, PadSide::kLeft), &journal, options,
                 cluster_.get());
    left_ = RunJournal(journal_options, *model, cluster_.get()).completed().has_value();
    cluster_.ranks().barrier();
    if (folder_.first()) journal.forget();
    return result;
  }

  TestCluster cluster_;
  SharedFolder folder_;
  std::unique_ptr<Model> model_;
  Checkpoint checkpoint_;
  bool left_ = false;  // whether what is complete was known until it was forgotten
};

TEST_F(RunJournalTest, LeavesTheStoreAlone) {
  const QuantizeResult result = run(options(), "out", false);
  EXPECT_EQ(result.resumed_from_stage, 0U);
  EXPECT_TRUE(left_);
  if (!folder_.first()) return;
  const StatisticsStore store = StatisticsStore::open(workspace() / "calibration.h5");
  EXPECT_EQ(store.stages_done(), static_cast<int64_t>(model_->stages().size()));
  EXPECT_EQ(store.text("model_fingerprint"), "tiny");
  size_t linears = 0;
  for (const StageSpec& stage : model_->stages()) linears += stage.linears.size();
  EXPECT_GE(store.linears().size(), linears);
  EXPECT_EQ(std::distance(fs::directory_iterator(workspace()), fs::directory_iterator()), 1);
}

// The output's name is taken when the run is complete: what is left is to publish it.
TEST_F(RunJournalTest, ARunThatOnlyLacksItsOutputsName) {
  if (cluster_.size() > 1) GTEST_SKIP() << "an error of rank 0 would leave the others waiting";
  const std::string digest = run(options(), "first", false).outputs[0].digest;
  folder_.on_first([&] { fs::create_directories(folder_.path() / "out"); });
  EXPECT_THROW(run(options(), "out", false), UsageError);
  folder_.on_first([&] { fs::remove_all(folder_.path() / "out"); });
  {
    const RunJournal journal(options(), *model_, cluster_.get());
    EXPECT_TRUE(journal.completed().has_value());
    EXPECT_TRUE(journal.has_progress());
  }
  const QuantizeResult result = run(options(), "out", false);
  EXPECT_EQ(result.resumed_from_stage, model_->stages().size());
  EXPECT_EQ(result.outputs[0].digest, digest);
  EXPECT_EQ(result.phases.at("load").bytes, 0);
}

TEST_F(RunJournalTest, AnotherRunsWorkspace) {
  if (cluster_.size() > 1) GTEST_SKIP() << "an error of rank 0 would leave the others waiting";
  folder_.on_first([&] { fs::create_directories(folder_.path() / "out"); });
  EXPECT_THROW(run(options(), "out", false), UsageError);
  const auto refused = [&](const JournalOptions& other) {
    try {
      const RunJournal journal(other, *model_, cluster_.get());
      return std::string("accepted");
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
  };
  const std::string text = refused(options("nvfp4"));
  EXPECT_NE(text.find("its recipe is \"fp8\", expected \"nvfp4\""), std::string::npos) << text;
  JournalOptions overwriting = options("nvfp4");
  overwriting.overwrite = true;
  EXPECT_FALSE(RunJournal(overwriting, *model_, cluster_.get()).has_progress());
  JournalOptions anew = options();
  anew.resume = false;
  EXPECT_FALSE(RunJournal(anew, *model_, cluster_.get()).has_progress());
  EXPECT_TRUE(RunJournal(options(), *model_, cluster_.get()).has_progress());
}

TEST(HiddenStates, ComeBackAsTheyWere) {
  const TemporaryFolder folder;
  ThreadPool pool(2);
  const fs::path path = folder.path() / "states.safetensors";
  std::vector<States> states;
  for (int64_t i = 0; i < 3; ++i) {
    at::Tensor x = at::arange(24 * (i + 1), at::kFloat).view({i + 1, 4, 6}).to(at::kBFloat16);
    at::Tensor encoder = i == 1 ? at::arange(10, at::kLong).view({2, 5}) : at::Tensor();
    states.push_back({x.transpose(1, 2), encoder});
  }
  const std::vector<int64_t> batches{1, 3, 5};
  const auto stored =
      save_states(path, "states", batches, {&states[0], &states[1], &states[2]}, pool);
  ASSERT_EQ(stored.size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(stored[i].batch, batches[i]);
    const StoredBatch again = stored_batch_of(to_json(stored[i]), "test");
    const States loaded = load_states(path, again, at::kCPU);
    EXPECT_TRUE(at::equal(loaded.x, states[i].x));
    ASSERT_EQ(loaded.encoder.defined(), states[i].encoder.defined());
    if (!loaded.encoder.defined()) continue;
    EXPECT_TRUE(at::equal(loaded.encoder, states[i].encoder));
  }
}

TEST(HiddenStates, ADamagedFileIsRefused) {
  const TemporaryFolder folder;
  ThreadPool pool(1);
  const fs::path path = folder.path() / "states.safetensors";
  const States states{at::arange(32, at::kFloat).view({2, 4, 4}), {}};
  const StoredBatch stored = save_states(path, "states", {4}, {&states}, pool).front();
  const std::string good = read_text_file(path);
  const auto expect_refused = [&](const std::string& bytes) {
    {
      File file = File::create(path);
      file.write_at(0, bytes.data(), static_cast<int64_t>(bytes.size()));
    }
    EXPECT_THROW(load_states(path, stored, at::kCPU), InputError);
  };
  std::string flipped = good;
  flipped.back() = static_cast<char>(flipped.back() ^ 4);
  expect_refused(flipped);
  expect_refused(good.substr(0, good.size() - 1));
  expect_refused("");
  StoredBatch other = stored;
  other.batch = 5;
  EXPECT_THROW(load_states(path, other, at::kCPU), InputError);
}

}  // namespace
}  // namespace halftone::test
