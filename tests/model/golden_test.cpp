// Forward passes of every family against the goldens of tests/data/archs.
#include <gtest/gtest.h>

#include <tuple>

#include "core/log.h"
#include "formats/cuda_library.h"
#include "model/family.h"
#include "model/source_layout.h"
#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

// Computes, and keeps what routers choose: a layer with experts calls it once.
class RouteRecorder : public PlainRunner {
 public:
  void routed(const at::Tensor& ids_TK, const at::Tensor& weights_TK) override {
    const auto [sorted, order] = ids_TK.sort(-1);
    ids.push_back(sorted.cpu());
    weights.push_back(weights_TK.gather(1, order).cpu());
  }

  std::vector<at::Tensor> ids;
  std::vector<at::Tensor> weights;
};

struct GoldenCase {
  std::string folder;
  std::string config;
};

std::string name_of_case(const testing::TestParamInfo<GoldenCase>& info) {
  std::string name = info.param.folder + "_" + info.param.config;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
}

// Both spellings of the configuration where transformers 5 has one.
std::vector<GoldenCase> cases(const std::vector<std::string>& folders) {
  std::vector<GoldenCase> all;
  for (const std::string& folder : folders) {
    for (const char* config : {"config.json", "config.v5.json"}) {
      if (fs::exists(data_folder() / "archs" / folder / config)) all.push_back({folder, config});
    }
  }
  return all;
}

class FamilyGolden : public testing::TestWithParam<GoldenCase> {
 protected:
  FamilyGolden() {
    fs::copy_file(source() / GetParam().config, folder_.path() / "config.json");
    fs::copy_file(source() / "model.safetensors", folder_.path() / "model.safetensors");
    checkpoint_.emplace(folder_.path());
    model_ = make_model(*checkpoint_);
    SourceLayout(*checkpoint_, *model_);
    load("golden.safetensors");
  }

  fs::path source() const { return data_folder() / "archs" / GetParam().folder; }

  void load(const char* file) {
    const SafetensorsFile golden(source() / file);
    golden_.clear();
    for (const auto& [name, info] : golden.tensors()) golden_[name] = tensor_of(golden, name);
    mask_BT_ = golden_.at("attention_mask") == 1;
  }

  BatchContext context() const {
    BatchContext batch;
    batch.length = mask_BT_.size(1);
    for (int64_t row = 0; row < mask_BT_.size(0); ++row) {
      const int64_t real = mask_BT_[row].sum().item<int64_t>();
      batch.tokens.push_back({batch.length - real, batch.length});
      batch.padded = batch.padded || real < batch.length;
    }
    return batch;
  }

  std::vector<at::Tensor> run(at::ScalarType dtype) { return run(dtype, context()); }
  std::vector<at::Tensor> run(at::ScalarType dtype, const BatchContext& batch, int64_t group = 0,
                              at::Device device = at::kCPU) {
    recorder_ = {};
    return run_stages(*checkpoint_, *model_, golden_.at("input_ids"), batch, dtype, recorder_,
                      group, device);
  }

  at::Tensor unpadded(const at::Tensor& logits_BTV) const {
    return logits_BTV.reshape({-1, logits_BTV.size(2)})
        .index_select(0, mask_BT_.reshape({-1}).nonzero().squeeze(1));
  }

  void expect_golden(const std::vector<at::Tensor>& outputs, double tolerance) const {
    for (size_t layer = 0; layer + 2 < outputs.size(); ++layer) {
      const at::Tensor& golden = golden_.at("hidden.layer_" + std::to_string(layer));
      EXPECT_LE(relative_error(outputs[layer + 1][0], golden), tolerance) << "layer " << layer;
    }
    const at::Tensor logits = unpadded(outputs.back());
    ASSERT_EQ(logits.sizes(), golden_.at("logits").sizes());
    EXPECT_LE(relative_error(logits, golden_.at("logits")), tolerance);
    expect_routes();
  }

  void expect_routes() const {
    size_t seen = 0;
    for (size_t i = 0; i + 2 < model_->stages().size(); ++i) {
      const std::string prefix = concat("router.layer_", i);
      const auto ids = golden_.find(prefix + ".expert_ids");
      ASSERT_EQ(ids != golden_.end(), model_->stages()[i + 1].experts > 0) << prefix;
      if (ids == golden_.end()) continue;
      ASSERT_LT(seen, recorder_.ids.size());
      EXPECT_TRUE(at::equal(recorder_.ids[seen], ids->second.to(at::kLong))) << prefix;
      const at::Tensor& weights = golden_.at(prefix + ".expert_weights");
      EXPECT_LE((recorder_.weights[seen] - weights).abs().max().item<double>(), 1e-4) << prefix;
      ++seen;
    }
    EXPECT_EQ(seen, recorder_.ids.size());
  }

  bool has_experts() const {
    for (const StageSpec& stage : model_->stages()) {
      if (stage.experts > 0) return true;
    }
    return false;
  }

  TemporaryFolder folder_;
  std::optional<Checkpoint> checkpoint_;
  std::unique_ptr<Model> model_;
  Tensors golden_;
  at::Tensor mask_BT_;
  RouteRecorder recorder_;
};

TEST_P(FamilyGolden, LeftPaddedBatchInFp32) {
  expect_golden(run(at::kFloat), 2e-5);
}

TEST_P(FamilyGolden, PaddingStaysFinite) {
  BatchContext batch = context();
  for (const bool routed : {false, true}) {
    batch.route_padding = routed;
    for (const at::Tensor& output : run(at::kFloat, batch)) {
      EXPECT_TRUE(output.isfinite().all().item<bool>());
    }
  }
}

TEST_P(FamilyGolden, RoutedPaddingChangesNoToken) {
  const at::Tensor plain = unpadded(run(at::kFloat).back());
  BatchContext batch = context();
  batch.route_padding = true;
  const at::Tensor routed = unpadded(run(at::kFloat, batch).back());
  EXPECT_LE(relative_error(routed, plain), 1e-5);
  for (const at::Tensor& ids : recorder_.ids) EXPECT_EQ(ids.size(0), mask_BT_.numel());
}

TEST_P(FamilyGolden, CloseInBf16) {
  const std::vector<at::Tensor> outputs = run(at::kBFloat16);
  EXPECT_EQ(outputs.back().scalar_type(), at::kBFloat16);
  const at::Tensor& golden = golden_.at("logits");
  const at::Tensor logits = unpadded(outputs.back());
  EXPECT_GT(relative_error(logits, golden), 1e-5) << "was it computed in bf16?";
  // Rounding may choose another expert for some tokens, and then those are far off: most are not.
  const at::Tensor errors =
      (logits.to(at::kFloat) - golden).abs().amax(-1) / golden.abs().max().item<double>();
  EXPECT_LE(errors.median().item<double>(), 3e-2);
  if (!has_experts()) {
    EXPECT_LE(relative_error(logits, golden), 4e-2);
  }
}

TEST_P(FamilyGolden, ExpertsInGroupsAreTheSameBitForBit) {
  const std::vector<at::Tensor> whole = run(at::kFloat);
  for (const int64_t group : {1, 3}) {
    const std::vector<at::Tensor> parts = run(at::kFloat, context(), group);
    for (size_t i = 0; i < whole.size(); ++i) {
      EXPECT_TRUE(at::equal(whole[i], parts[i])) << "stage " << i << ", groups of " << group;
    }
  }
}

TEST_P(FamilyGolden, ObservedExpertsChangeNothing) {
  const std::vector<at::Tensor> plain = run(at::kFloat);
  const RouteRecorder routes = recorder_;
  BatchContext batch = context();
  batch.observed_experts = 0.9;
  const std::vector<at::Tensor> observed = run(at::kFloat, batch);
  // More rows of a product may change the rounding of each.
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_LE(relative_error(observed[i], plain[i]), 2e-6) << "stage " << i;
  }
  for (size_t i = 0; i < routes.ids.size(); ++i) {
    EXPECT_TRUE(at::equal(recorder_.ids[i], routes.ids[i]));
  }
}

const std::vector<std::string> kFolders = {
    "llama-3.1",         "llama-3.2",   "llama4-scout",    "llama4-maverick", "mixtral-8x7b",
    "phi3-mini",         "phi4",        "phi4-mini",       "phi3.5-moe",      "nemotron-nas",
    "gemma3-1b",         "gemma3-4b",   "qwen2.5",         "qwen3",           "qwen3-moe",
    "qwen2-moe",         "deepseek-v3", "deepseek-v3-fp8", "glm4-moe",        "gpt-oss",
    "deepseek-moonlight"};

INSTANTIATE_TEST_SUITE_P(Fixtures, FamilyGolden, testing::ValuesIn(cases(kFolders)), name_of_case);

// The same on a GPU where there is one.
class FamilyGoldenCuda : public FamilyGolden {
 protected:
  void SetUp() override {
    static const std::string problem = load_cuda_library();
    if (!problem.empty()) GTEST_SKIP() << problem;
  }
};

TEST_P(FamilyGoldenCuda, LeftPaddedBatchInFp32) {
  const auto on_cpu = [](std::vector<at::Tensor> outputs) {
    for (at::Tensor& output : outputs) output = output.cpu();
    return outputs;
  };
  const std::vector<at::Tensor> whole = on_cpu(run(at::kFloat, context(), 0, at::kCUDA));
  expect_golden(whole, 1e-4);
  const std::vector<at::Tensor> parts = on_cpu(run(at::kFloat, context(), 3, at::kCUDA));
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_TRUE(at::equal(whole[i], parts[i])) << "stage " << i;
    EXPECT_TRUE(whole[i].isfinite().all().item<bool>());
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, FamilyGoldenCuda, testing::ValuesIn(cases(kFolders)),
                         name_of_case);

// Longrope has two regimes; the goldens above are of the long one.
class FamilyGoldenShort : public FamilyGolden {};

TEST_P(FamilyGoldenShort, WithinTheOriginalLength) {
  load("golden_short.safetensors");
  const at::Tensor logits = unpadded(run(at::kFloat).back());
  ASSERT_EQ(logits.sizes(), golden_.at("logits").sizes());
  EXPECT_LE(relative_error(logits, golden_.at("logits")), 2e-5);
  expect_routes();
}

INSTANTIATE_TEST_SUITE_P(Fixtures, FamilyGoldenShort,
                         testing::ValuesIn(cases({"phi3-mini", "phi4-mini", "phi3.5-moe"})),
                         name_of_case);

// Where no absolute position enters.
class FamilyGoldenRow : public FamilyGolden {};

TEST_P(FamilyGoldenRow, AloneEqualsItsPaddedSelf) {
  const at::Tensor padded = unpadded(run(at::kFloat).back());
  const int64_t real = mask_BT_[1].sum().item<int64_t>();
  const at::Tensor ids = golden_.at("input_ids").slice(0, 1).slice(1, mask_BT_.size(1) - real);
  const BatchContext alone{{{0, real}}, real, false};
  const auto outputs = run_stages(*checkpoint_, *model_, ids.contiguous(), alone, at::kFloat);
  EXPECT_LE(relative_error(outputs.back()[0], padded.slice(0, padded.size(0) - real)), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(
    Fixtures, FamilyGoldenRow,
    testing::ValuesIn(cases({"llama-3.1", "llama-3.2", "mixtral-8x7b", "phi4", "nemotron-nas",
                             "gemma3-1b", "gemma3-4b", "qwen2.5", "qwen3", "qwen3-moe", "qwen2-moe",
                             "deepseek-v3", "glm4-moe", "deepseek-moonlight"})),
    name_of_case);

TEST(NanoLlama, PredictsItsOwnText) {
  const Checkpoint checkpoint(data_folder() / "models" / "nano-llama");
  const std::unique_ptr<Model> model = make_model(checkpoint);
  SourceLayout(checkpoint, *model);
  const std::string lines = read_text_file(data_folder() / "goldens" / "calib_ids.jsonl");
  const Json ids = parse_json(std::string_view(lines).substr(0, lines.find('\n')), "line 1");
  std::vector<int64_t> values = ids.get<std::vector<int64_t>>();
  const auto length = static_cast<int64_t>(values.size());
  const at::Tensor ids_BT = at::tensor(values, at::kLong).unsqueeze(0);
  const auto logits =
      run_stages(checkpoint, *model, ids_BT, {{{0, length}}, length, false}, at::kFloat).back();
  const at::Tensor loss =
      at::cross_entropy_loss(logits[0].slice(0, 0, length - 1), ids_BT[0].slice(0, 1));
  // A guess costs ln 2048 = 7.6.
  EXPECT_LT(loss.item<double>(), 5.5);
}

}  // namespace
}  // namespace halftone::test
