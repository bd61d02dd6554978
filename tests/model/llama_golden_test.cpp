// Forward passes against the outputs of transformers 5.17 (tests/data/archs).
#include <gtest/gtest.h>

#include <tuple>

#include "model/family.h"
#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

class LlamaGolden : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  LlamaGolden() {
    const fs::path source = data_folder() / "archs" / std::get<0>(GetParam());
    fs::copy_file(source / std::get<1>(GetParam()), folder_.path() / "config.json");
    fs::copy_file(source / "model.safetensors", folder_.path() / "model.safetensors");
    checkpoint_.emplace(folder_.path());
    model_ = make_model(*checkpoint_);
    check_tensors(*checkpoint_, *model_);
    const SafetensorsFile golden(source / "golden.safetensors");
    for (const auto& [name, info] : golden.tensors()) golden_[name] = tensor_of(golden, name);
    mask_BT_ = golden_.at("attention_mask") == 1;
  }

  BatchContext context() const {
    BatchContext batch;
    batch.length = mask_BT_.size(1);
    batch.padded = true;
    for (int64_t row = 0; row < mask_BT_.size(0); ++row) {
      const int64_t real = mask_BT_[row].sum().item<int64_t>();
      batch.tokens.push_back({batch.length - real, batch.length});
    }
    return batch;
  }

  std::vector<at::Tensor> run(at::ScalarType dtype) {
    return run_stages(*checkpoint_, *model_, golden_.at("input_ids"), context(), dtype);
  }

  at::Tensor unpadded(const at::Tensor& logits_BTV) const {
    return logits_BTV.reshape({-1, logits_BTV.size(2)})
        .index_select(0, mask_BT_.reshape({-1}).nonzero().squeeze(1));
  }

  TemporaryFolder folder_;
  std::optional<Checkpoint> checkpoint_;
  std::unique_ptr<Model> model_;
  Tensors golden_;
  at::Tensor mask_BT_;
};

TEST_P(LlamaGolden, LeftPaddedBatchInFp32) {
  const std::vector<at::Tensor> outputs = run(at::kFloat);
  for (size_t layer = 0; layer + 2 < outputs.size(); ++layer) {
    const at::Tensor& golden = golden_.at("hidden.layer_" + std::to_string(layer));
    EXPECT_LE(relative_error(outputs[layer + 1][0], golden), 2e-5) << "layer " << layer;
  }
  const at::Tensor logits = unpadded(outputs.back());
  ASSERT_EQ(logits.sizes(), golden_.at("logits").sizes());
  EXPECT_LE(relative_error(logits, golden_.at("logits")), 2e-5);
}

TEST_P(LlamaGolden, PaddingStaysFinite) {
  for (const at::Tensor& output : run(at::kFloat)) {
    EXPECT_TRUE(output.isfinite().all().item<bool>());
  }
}

TEST_P(LlamaGolden, RowAloneEqualsItsPaddedSelf) {
  const at::Tensor padded = unpadded(run(at::kFloat).back());
  const int64_t real = mask_BT_[1].sum().item<int64_t>();
  const at::Tensor ids = golden_.at("input_ids").slice(0, 1).slice(1, mask_BT_.size(1) - real);
  const BatchContext alone{{{0, real}}, real, false};
  const auto outputs = run_stages(*checkpoint_, *model_, ids.contiguous(), alone, at::kFloat);
  EXPECT_LE(relative_error(outputs.back()[0], padded.slice(0, padded.size(0) - real)), 1e-5);
}

TEST_P(LlamaGolden, CloseInBf16) {
  const std::vector<at::Tensor> outputs = run(at::kBFloat16);
  EXPECT_EQ(outputs.back().scalar_type(), at::kBFloat16);
  const double error = relative_error(unpadded(outputs.back()), golden_.at("logits"));
  EXPECT_LE(error, 3e-2);
  EXPECT_GT(error, 1e-5) << "was it computed in bf16?";
}

INSTANTIATE_TEST_SUITE_P(Fixtures, LlamaGolden,
                         testing::Combine(testing::Values("llama-3.1", "llama-3.2"),
                                          testing::Values("config.json", "config.v5.json")),
                         [](const auto& info) {
                           std::string name =
                               std::get<0>(info.param) + "_" + std::get<1>(info.param);
                           for (char& c : name)
                             c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           return name;
                         });

TEST(NanoLlama, PredictsItsOwnText) {
  const Checkpoint checkpoint(data_folder() / "models" / "nano-llama");
  const std::unique_ptr<Model> model = make_model(checkpoint);
  check_tensors(checkpoint, *model);
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
