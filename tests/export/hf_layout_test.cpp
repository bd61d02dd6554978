#include "export/hf_layout.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

class HfLayoutTest : public testing::Test {
 protected:
  HfPlan plan(const std::string& format, const std::string& kv, int64_t limit = int64_t{1} << 40) {
    model_ = tiny_model(config_);
    if (tensors_.empty()) tensors_ = tiny_tensors(*model_);
    for (const auto& [name, tensor] : extra_) tensors_[name] = tensor;
    write_checkpoint(folder_.path(), config_, tensors_);
    checkpoint_.emplace(folder_.path());
    Recipe recipe = load_preset(format, "ptq");
    add_kv_cache(recipe, kv);
    return plan_hf_export(SourceLayout(*checkpoint_, *model_), *model_,
                          plan_target(*model_, recipe), limit);
  }

  // Every source tensor has exactly one fate.
  void expect_accounted(const Accounting& accounting) {
    std::multiset<std::string> all(accounting.quantized.begin(), accounting.quantized.end());
    all.insert(accounting.copied.begin(), accounting.copied.end());
    for (const DroppedTensor& tensor : accounting.dropped) all.insert(tensor.name);
    const std::vector<std::string>& names = checkpoint_->names();
    EXPECT_EQ(all, std::multiset<std::string>(names.begin(), names.end()));
  }

  TemporaryFolder folder_;
  Json config_ = tiny_config();
  Tensors tensors_;
  Tensors extra_;
  std::unique_ptr<Model> model_;
  std::optional<Checkpoint> checkpoint_;
};

TEST_F(HfLayoutTest, OneFile) {
  const HfPlan nvfp4 = plan("nvfp4", "fp8");
  ASSERT_EQ(nvfp4.layout.files.size(), 1u);
  EXPECT_EQ(nvfp4.layout.files[0].name, "model.safetensors");
  expect_accounted(nvfp4.accounting);
  EXPECT_EQ(nvfp4.accounting.quantized.size(), 14u);
  EXPECT_TRUE(nvfp4.accounting.extra.empty() && nvfp4.accounting.dropped.empty());
  const TensorInfo& down = nvfp4.layout.info("model.layers.1.mlp.down_proj.weight");
  EXPECT_EQ(down.dtype, DType::kU8);
  EXPECT_EQ(down.shape, (std::vector<int64_t>{32, 24}));
  EXPECT_EQ(nvfp4.layout.info("model.layers.0.self_attn.k_proj.k_scale").shape,
            std::vector<int64_t>{});
  EXPECT_EQ(nvfp4.layout.info("model.layers.0.self_attn.v_proj.v_scale").dtype, DType::kF32);
  EXPECT_EQ(nvfp4.layout.info("lm_head.weight").dtype, DType::kBF16);
  // 4 tensors a linear, 2 cache scales a layer, the rest as it was.
  EXPECT_EQ(nvfp4.layout.file_of.size(), 14 * 4 + 2 * 2 + nvfp4.accounting.copied.size());
  int64_t bytes = 0;
  int64_t elements = 0;
  for (const auto& [name, file] : nvfp4.layout.file_of) {
    bytes += nvfp4.layout.info(name).bytes;
    elements += nvfp4.layout.info(name).count();
  }
  EXPECT_EQ(nvfp4.layout.total_bytes, bytes);
  EXPECT_EQ(nvfp4.layout.total_elements, elements);
  EXPECT_EQ(plan("nvfp4", "fp8_cast").layout.file_of.size(), nvfp4.layout.file_of.size() - 4);
}

TEST_F(HfLayoutTest, ShardsKeepUnitsTogether) {
  const HfPlan whole = plan("fp8", "fp8");
  const int64_t limit = 4000;
  const HfPlan split = plan("fp8", "fp8", limit);
  const size_t count = split.layout.files.size();
  ASSERT_GT(count, 3u);
  EXPECT_EQ(split.layout.file_of.size(), whole.layout.file_of.size());
  EXPECT_EQ(split.layout.total_bytes, whole.layout.total_bytes);
  size_t tensors = 0;
  for (size_t i = 0; i < count; ++i) {
    const auto& file = split.layout.files[i];
    char name[64];
    std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, count);
    EXPECT_EQ(file.name, name);
    int64_t bytes = 0;
    for (const auto& [tensor, info] : file.layout.tensors) {
      bytes += info.bytes;
      EXPECT_EQ(split.layout.file_of.at(tensor), i);
      EXPECT_EQ(&split.layout.info(tensor), &info);
    }
    tensors += file.layout.tensors.size();
    EXPECT_LE(bytes, limit);
    EXPECT_GT(bytes, 0);
  }
  EXPECT_EQ(tensors, whole.layout.file_of.size());
  const auto file_of = [&](const std::string& name) { return split.layout.file_of.at(name); };
  for (const std::string& weight : split.accounting.quantized) {
    EXPECT_EQ(file_of(weight), file_of(weight + "_scale"));
    const std::string module = weight.substr(0, weight.rfind('.'));
    EXPECT_EQ(file_of(weight), file_of(module + ".input_scale"));
  }
  EXPECT_EQ(file_of(key_scale_name("model.layers.1.self_attn")),
            file_of(value_scale_name("model.layers.1.self_attn")));
  // In module order, each file filled as far as it goes.
  EXPECT_EQ(file_of("model.embed_tokens.weight"), 0u);
  EXPECT_EQ(file_of("lm_head.weight"), count - 1);
}

TEST_F(HfLayoutTest, ATensorAboveTheLimitHasAFileOfItsOwn) {
  const HfPlan split = plan("fp8", "none", 1);
  for (const auto& file : split.layout.files) {
    EXPECT_TRUE(file.layout.tensors.size() == 1 || file.layout.tensors.size() == 3);
  }
  EXPECT_EQ(split.layout.files.size(), 14 + split.accounting.copied.size());
}

TEST_F(HfLayoutTest, TiedCopiesAreDropped) {
  config_["tie_word_embeddings"] = true;
  tensors_ = tiny_tensors(*tiny_model(config_));
  extra_["lm_head.weight"] = tensors_.at("model.embed_tokens.weight");
  const HfPlan tied = plan("fp8", "none");
  expect_accounted(tied.accounting);
  ASSERT_EQ(tied.accounting.dropped.size(), 1u);
  EXPECT_EQ(tied.accounting.dropped[0].name, "lm_head.weight");
  EXPECT_EQ(tied.accounting.dropped[0].reason, "tied to 'model.embed_tokens.weight'");
  EXPECT_EQ(tied.layout.file_of.count("lm_head.weight"), 0u);

  // A head that is tied by name only must not be lost.
  extra_["lm_head.weight"] = tensors_.at("model.embed_tokens.weight").clone();
  extra_["lm_head.weight"][39][31] = 9.0;
  const HfPlan other = plan("fp8", "none");
  expect_accounted(other.accounting);
  EXPECT_TRUE(other.accounting.dropped.empty());
  EXPECT_EQ(other.accounting.extra, std::vector<std::string>{"lm_head.weight"});
  extra_["lm_head.weight"] = numbers({3}, 1);
  EXPECT_EQ(plan("fp8", "none").accounting.extra.size(), 1u) << "another shape";
}

TEST_F(HfLayoutTest, ExtraTensorsAreKept) {
  extra_["model.mtp.eh_proj.weight"] = numbers({4, 4}, 1);
  extra_["vision.codes"] = at::zeros({3}, at::kByte);
  const HfPlan with = plan("int8_wo", "none");
  expect_accounted(with.accounting);
  EXPECT_EQ(with.accounting.extra,
            (std::vector<std::string>{"model.mtp.eh_proj.weight", "vision.codes"}));
  EXPECT_EQ(with.layout.info("vision.codes").dtype, DType::kU8);
}

TEST_F(HfLayoutTest, NamesThatCollideAreRefused) {
  extra_["model.layers.0.mlp.up_proj.weight_scale"] = numbers({}, 1);
  expect_error<InputError>([&] { plan("fp8", "none"); },
                           "'model.layers.0.mlp.up_proj.weight_scale', which the quantized");
}

}  // namespace
}  // namespace halftone::test
