#include "engine/stage_loader.h"

#include <gtest/gtest.h>

#include "engine/weight_check.h"
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
