#include "engine/residency.h"

#include <gtest/gtest.h>

#include "engine/compressed_stage.h"
#include "engine/weight_source.h"
#include "model/source_layout.h"
#include "tests/engine/quantize_run.h"

namespace halftone::test {
namespace {

TEST(HeldWeights, ALaterPassReadsNoFile) {
  TestCluster cluster;
  const SharedFolder folder;
  const auto model = tiny_model(tiny_config());
  const Tensors tensors = tiny_tensors(*model);
  const Checkpoint checkpoint = shared_checkpoint(folder, tiny_config(), tensors);
  const SourceLayout layout(checkpoint, *model);
  const std::vector<LoadStep> steps = plan_loads(layout.stages(), INT64_MAX);
  HeldWeights held(/*keeps_source=*/true);
  StageLoader first(checkpoint, steps, cluster.get(), &held);
  int64_t source_bytes = 0;
  for (const LoadStep& step : steps) {
    EXPECT_EQ(held.find(step), nullptr);
    source_bytes += first.next().image().bytes;
    EXPECT_NE(held.find(step), nullptr);
  }
  EXPECT_EQ(held.bytes(), first.bytes_read());
  EXPECT_NEAR(static_cast<double>(held.bytes() * cluster.size()), static_cast<double>(source_bytes),
              64.0 * cluster.size() * steps.size());
  cluster.ranks().barrier();
  folder.on_first([&] { fs::resize_file(folder.path() / "model" / "model.safetensors", 0); });
  StageLoader second(checkpoint, steps, cluster.get(), &held);
  for (const LoadStep& step : steps) {
    const LoadedStage loaded = second.next();
    for (const StoredTensor& stored : step.tensors) {
      EXPECT_TRUE(at::equal(loaded.tensor(stored.name), tensors.at(stored.name))) << stored.name;
    }
  }
  EXPECT_EQ(second.bytes_read(), 0);
}

TEST(HeldWeights, OnlyThoseThatKeepTheSourceTakeWhatIsRead) {
  TestCluster cluster;
  const SharedFolder folder;
  const auto model = tiny_model(tiny_config());
  const Checkpoint checkpoint = shared_checkpoint(folder, tiny_config(), tiny_tensors(*model));
  const SourceLayout layout(checkpoint, *model);
  HeldWeights held(/*keeps_source=*/false);
  StageLoader(checkpoint, plan_loads(layout.stages(), INT64_MAX), cluster.get(), &held).next();
  EXPECT_EQ(held.bytes(), 0);
}

// Stages of experts come whole and in groups; gpt-oss stacks them in MXFP4.
class CompressorTest
    : public testing::TestWithParam<std::tuple<const char*, const char*, int64_t>> {};

TEST_P(CompressorTest, ServesWhatIsServedFromTheSource) {
  const auto [family, format, limit] = GetParam();
  TestCluster cluster;
  const Checkpoint checkpoint(data_folder() / "archs" / family);
  const auto model = make_model(checkpoint);
  const SourceLayout layout(checkpoint, *model);
  const TargetPlan plan = plan_target(*model, load_preset(format, "ptq"));
  const Cluster run = cluster.get();
  const SolveContext context{layout.dtype(), DType::kF32, Numerics::kCpu, run};
  CalibrationOptions options;
  options.show_progress = false;
  options.compute_dtype = DType::kF32;
  options.stage_limit = limit;
  HeldWeights held(/*keeps_source=*/false);
  auto compressor = std::make_unique<Compressor>(*model, plan, context, held);
  const auto solutions = calibrate_model(layout, *model, plan, tiny_batches(4, 2, PadSide::kLeft),
                                         options, context, compressor.get());
  const auto plain = make_fake_quant_source(layout, *model, plan, solutions, context);
  const auto compressed =
      make_fake_quant_source(layout, *model, plan, solutions, context, std::move(compressor));
  const std::vector<LoadStep> steps = plan_loads(layout.stages(), limit);
  StageLoader files(checkpoint, steps, run);
  StageLoader from_held(checkpoint, steps, run, &held);
  for (const LoadStep& step : steps) {
    const StageWeights a = plain->weights(step.stage, files.next(), at::kFloat, run.pool);
    const StageWeights b = compressed->weights(step.stage, from_held.next(), at::kFloat, run.pool);
    for (const StoredTensor& stored : step.tensors) {
      EXPECT_TRUE(at::equal(a.at(stored.name), b.at(stored.name))) << stored.name;
    }
  }
  EXPECT_EQ(from_held.bytes_read(), 0);
  int64_t most = held.bytes();
  int64_t least = -held.bytes();
  cluster.ranks().all_reduce(&most, 1, DType::kI64, ReduceOp::kMax);
  cluster.ranks().all_reduce(&least, 1, DType::kI64, ReduceOp::kMax);
  EXPECT_EQ(most, -least) << "every rank holds as much";
}

INSTANTIATE_TEST_SUITE_P(Families, CompressorTest,
                         testing::Values(std::tuple("llama-3.1", "fp8", INT64_MAX),
                                         std::tuple("deepseek-v3", "nvfp4", int64_t{20000}),
                                         std::tuple("gpt-oss", "nvfp4", INT64_MAX),
                                         std::tuple("gpt-oss", "fp8", int64_t{20000})));

TEST(ChooseResidency, HoldsTheSourceWhereItIsReadAgainAndFits) {
  const auto choose = [](int ranks, int64_t budget, int passes) {
    return choose_residency(1000, 100, ranks, budget, passes).residency;
  };
  EXPECT_EQ(choose(1, 1200, 2), Residency::kResident);
  EXPECT_EQ(choose(1, 1199, 2), Residency::kStream);
  EXPECT_EQ(choose(4, 450, 2), Residency::kResident) << "a quarter and two stages";
  EXPECT_EQ(choose(4, 449, 3), Residency::kStream);
  EXPECT_EQ(choose(1, 1'000'000, 1), Residency::kStream) << "one pass reads once anyway";
  EXPECT_NE(choose_residency(1000, 100, 4, 449, 3).why.find("too much"), std::string::npos);
}

}  // namespace
}  // namespace halftone::test
