#include "engine/stage_loader.h"

#include <gtest/gtest.h>

#include "engine/weight_check.h"
#include "model/family.h"
#include "model/source_layout.h"
#include "tests/engine/test_cluster.h"

namespace halftone::test {
namespace {

std::vector<StoredTensor> stored(const Checkpoint& checkpoint,
                                 const std::vector<std::string>& names) {
  std::vector<StoredTensor> tensors;
  for (const std::string& name : names) tensors.push_back(stored_plainly(checkpoint.info(name)));
  return tensors;
}

// One step for each list of names.
std::vector<LoadStep> steps_of(const Checkpoint& checkpoint,
                               const std::vector<std::vector<std::string>>& stages) {
  std::vector<LoadStep> steps;
  for (const auto& names : stages) steps.push_back({steps.size(), {}, stored(checkpoint, names)});
  return steps;
}

TEST(StageLoader, GivesTheFilesBytesAtAnyNumberOfRanks) {
  TestCluster cluster;
  const SharedFolder folder;
  const auto model = tiny_model(tiny_config());
  Tensors tensors = tiny_tensors(*model);
  tensors["codes"] = at::arange(0, 101, at::kByte);
  tensors["nothing"] = at::zeros({0, 4}, at::kFloat);
  tensors["one"] = at::full({}, 2.5, at::kFloat);
  const Checkpoint checkpoint = shared_checkpoint(folder, tiny_config(), tensors);
  auto names = tensor_names(*model);
  names.push_back({"codes", "one", "nothing", "codes"});
  names.push_back({});
  names.push_back({"one"});
  StageLoader loader(checkpoint, steps_of(checkpoint, names), cluster.get());
  for (const auto& stage : names) {
    const LoadedStage loaded = loader.next();
    ASSERT_EQ(loaded.image().entries.size(), stage.size());
    for (const std::string& name : stage) {
      EXPECT_TRUE(at::equal(loaded.tensor(name), tensors.at(name))) << name;
      EXPECT_EQ(loaded.tensor(name).sizes(), tensors.at(name).sizes());
      EXPECT_EQ(loaded.stored(name).bytes, checkpoint.info(name).bytes);
    }
  }
  EXPECT_GE(loader.seconds_waiting(), 0.0);
}

TEST(StageLoader, RanksShareTheReading) {
  TestCluster cluster;
  const SharedFolder folder;
  const Tensors tensors{{"x", numbers({1024, 1024}, 1)}};
  const Checkpoint checkpoint = shared_checkpoint(folder, tiny_config(), tensors);
  StageLoader loader(checkpoint, steps_of(checkpoint, {{"x"}}), cluster.get());
  loader.next();
  EXPECT_NEAR(static_cast<double>(loader.bytes_read()) * cluster.size(), 4.0 * (1 << 20), 1024.0);
}

TEST(PlanLoads, LargeStagesComeInGroupsOfExperts) {
  const auto tensor = [](const std::string& name, int64_t bytes, int expert) {
    return StoredTensor{name, {bytes}, DType::kU8, {{name}}, bytes, nullptr, false, expert};
  };
  const std::vector<std::vector<StoredTensor>> stages{
      {tensor("embedding", 500, -1)},
      {tensor("norm", 10, -1), tensor("e0", 60, 0), tensor("e1", 30, 1), tensor("gate", 5, -1),
       tensor("e1.bias", 10, 1), tensor("e2", 120, 2), tensor("e3", 20, 3)},
      {tensor("small", 10, -1), tensor("e", 20, 0)}};
  const auto steps = plan_loads(stages, 100);
  const auto names = [](const LoadStep& step) {
    std::string text;
    for (const StoredTensor& one : step.tensors) text += one.name + " ";
    return text;
  };
  ASSERT_EQ(steps.size(), 6u);
  EXPECT_EQ(names(steps[0]), "embedding ") << "without experts nothing can be divided";
  EXPECT_TRUE(steps[0].part.whole());
  EXPECT_EQ(names(steps[1]), "norm gate ");
  EXPECT_TRUE(steps[1].part.first && !steps[1].part.last);
  EXPECT_EQ(steps[1].part.expert_end, 0);
  EXPECT_EQ(names(steps[2]), "e0 e1 e1.bias ") << "as many as stay within the limit";
  EXPECT_EQ(names(steps[3]), "e2 ") << "alone above it";
  EXPECT_EQ(names(steps[4]), "e3 ");
  EXPECT_TRUE(!steps[4].part.first && steps[4].part.last);
  EXPECT_EQ(steps[4].part.expert_begin, 3);
  EXPECT_EQ(steps[4].part.expert_end, 4);
  EXPECT_TRUE(steps[5].part.whole());
  EXPECT_EQ(steps[5].stage, 2u);
  EXPECT_EQ(plan_loads(stages, 1000).size(), 3u);
}

// What is read one by one is what came in one piece.
TEST(LoadedStages, OnDemandEqualsInMemory) {
  TestCluster cluster;
  const Checkpoint checkpoint(data_folder() / "archs" / "gpt-oss");
  const auto model = make_model(checkpoint);
  const SourceLayout layout(checkpoint, *model);
  StageLoader loader(checkpoint, plan_loads(layout.stages(), INT64_MAX), cluster.get());
  for (const auto& stage : layout.stages()) {
    const LoadedStage whole = loader.next();
    const LoadedStage single(stage, checkpoint, at::kCPU, cluster.get().pool);
    EXPECT_TRUE(whole.in_memory() && !single.in_memory());
    for (const StoredTensor& stored : stage) {
      EXPECT_TRUE(at::equal(whole.tensor(stored.name), single.tensor(stored.name))) << stored.name;
      const at::Tensor exponents = whole.block_exponents(stored.name);
      EXPECT_EQ(exponents.defined(), stored.codec != nullptr) << stored.name;
      if (!exponents.defined()) continue;
      EXPECT_TRUE(at::equal(exponents, single.block_exponents(stored.name)));
      EXPECT_EQ(exponents.size(1) * 32, stored.shape[1]);
    }
  }
}

TEST(StageLoader, MayBeLeftWithAReadUnderWay) {
  TestCluster cluster;
  const SharedFolder folder;
  const auto model = tiny_model(tiny_config());
  const Checkpoint checkpoint = shared_checkpoint(folder, tiny_config(), tiny_tensors(*model));
  for (int i = 0; i < 20; ++i) {
    StageLoader(checkpoint, steps_of(checkpoint, tensor_names(*model)), cluster.get()).next();
  }
}

TEST(StageLoader, AFileThatShrankIsAnErrorOfEveryRankThatReadsIt) {
  TestCluster cluster;
  const SharedFolder folder;
  const Checkpoint checkpoint =
      shared_checkpoint(folder, tiny_config(), {{"x", numbers({4096}, 1)}});
  folder.on_first([&] { fs::resize_file(folder.path() / "model" / "model.safetensors", 200); });
  StageLoader loader(checkpoint, steps_of(checkpoint, {{"x"}}), cluster.get());
  EXPECT_THROW(loader.next(), InputError);
}

TEST(AmaxOfStage, EqualsThePlainOne) {
  TestCluster cluster;
  const SharedFolder folder;
  Tensors tensors{{"a", numbers({300, 7}, 1)},
                  {"b", (100 * numbers({33}, 2)).to(at::kBFloat16)},
                  {"c", numbers({5, 5}, 3).to(at::kHalf)},
                  {"d", at::zeros({9}, at::kFloat)},
                  {"e", at::full({}, -3.0, at::kFloat)},
                  {"f", at::zeros({0}, at::kFloat)},
                  {"g", at::full({9}, 200, at::kByte)}};
  const Checkpoint checkpoint = shared_checkpoint(folder, tiny_config(), tensors);
  StageLoader loader(checkpoint, steps_of(checkpoint, {{"g", "f", "e", "d", "c", "b", "a"}}),
                     cluster.get());
  const auto amax = amax_of_stage(loader.next(), checkpoint, cluster.get());
  EXPECT_EQ(amax.size(), 6u) << "bytes have no amax";
  for (const auto& [name, value] : amax) {
    const at::Tensor& tensor = tensors.at(name);
    EXPECT_EQ(value, tensor.numel() == 0 ? 0.0f : tensor.abs().max().to(at::kFloat).item<float>())
        << name;
  }
}

TEST(AmaxOfStage, EveryRankNamesTheFirstDamagedTensor) {
  TestCluster cluster;
  const SharedFolder folder;
  const std::pair<int64_t, float> damages[] = {{0, NAN}, {4999, INFINITY}, {2500, -INFINITY}};
  for (const auto& [place, value] : damages) {
    Tensors tensors{{"good", numbers({5000}, 1)},
                    {"second", numbers({5000}, 2)},
                    {"third", numbers({5000}, 3).to(at::kBFloat16)}};
    tensors["second"][place] = value;
    tensors["third"][4999] = NAN;
    const Checkpoint checkpoint = shared_checkpoint(folder, tiny_config(), tensors);
    StageLoader loader(checkpoint, steps_of(checkpoint, {{"good", "second", "third"}}),
                       cluster.get());
    const LoadedStage loaded = loader.next();
    expect_error<InputError>([&] { amax_of_stage(loaded, checkpoint, cluster.get()); },
                             "tensor 'second' in '" +
                                 (folder.path() / "model" / "model.safetensors").string() +
                                 "' holds NaN or infinity");
    cluster.ranks().barrier();
  }
}

}  // namespace
}  // namespace halftone::test
