#include "engine/quantize.h"

#include <gtest/gtest.h>

#include "core/sha256.h"
#include "engine/summary.h"
#include "tests/engine/quantize_run.h"

namespace halftone::test {
namespace {

// What Model Optimizer 0.47 wrote for nano-llama: weights and their scales byte for byte, input
// scales to the accuracy of the forward pass.
TEST(Quantize, NanoLlamaEqualsTheReference) {
  TestCluster cluster;
  const SharedFolder folder;
  const Checkpoint checkpoint(data_folder() / "models" / "nano-llama");
  DatasetOptions data;
  data.samples = 64;
  data.max_length = 256;
  const Dataset dataset =
      load_dataset({data_folder() / "goldens" / "calib_ids.jsonl"}, nullptr, data);
  const auto batches = make_batches(dataset.samples, 8, 0, PadSide::kLeft, true);
  const QuantizeResult result =
      quantize_to(folder.path(), checkpoint,
                  {load_preset("fp8", "ptq"), load_preset("nvfp4", "ptq")}, batches, cluster);
  for (const auto& output : result.outputs) {
    SCOPED_TRACE(output.format);
    const Json golden =
        read_json_file(data_folder() / "goldens" / "nano-llama" / (output.format + ".json"));
    const Checkpoint written(output.dir);
    EXPECT_EQ(written.names().size(), golden["tensors"].size());
    EXPECT_EQ(output.bytes, golden["total_bytes"].get<int64_t>());
    EXPECT_EQ(output.digest, digest_of_directory(output.dir));
    for (const auto& [name, tensor] : golden["tensors"].items()) {
      const TensorInfo& info = written.info(name);
      EXPECT_EQ(name_of(info.dtype), tensor["dtype"].get<std::string>()) << name;
      EXPECT_EQ(info.shape, tensor["shape"].get<std::vector<int64_t>>()) << name;
      const std::vector<char> bytes = written.read_all(name);
      if (name.ends_with("input_scale")) {
        const auto expected = tensor["values"].get<float>();
        EXPECT_NEAR(tensor_of(written, name).item<float>(), expected, 0.02f * expected) << name;
      } else {
        EXPECT_EQ(sha256_of_bytes(bytes.data(), bytes.size()), tensor["sha256"].get<std::string>())
            << name;
      }
    }
  }
}

class QuantizeTest : public testing::Test {
 protected:
  QuantizeTest()
      : model_(tiny_model(tiny_config())),
        checkpoint_(shared_checkpoint(folder_, tiny_config(), tiny_tensors(*model_))) {}

  TestCluster cluster_;
  SharedFolder folder_;
  std::unique_ptr<Model> model_;
  Checkpoint checkpoint_;
  std::vector<Batch> batches_ = tiny_batches(9, 2, PadSide::kLeft);
};

TEST_F(QuantizeTest, EveryTensorHasOneOwner) {
  const std::vector<Recipe> recipes{preset_with_cache("nvfp4", "fp8"),
                                    preset_with_cache("int8_wo", "none")};
  for (const int64_t limit : {int64_t{1} << 40, int64_t{5000}}) {
    const fs::path out = folder_.path() / std::to_string(limit);
    const QuantizeResult result = quantize_to(out, checkpoint_, recipes, batches_, cluster_, limit);
    EXPECT_EQ(result.phases.at("write").bytes, result.outputs[0].bytes + result.outputs[1].bytes);
    const Checkpoint back(out / "nvfp4");
    EXPECT_EQ(back.total_bytes(), result.outputs[0].bytes);
    EXPECT_EQ(fs::exists(out / "nvfp4" / "model.safetensors.index.json"), limit == 5000);
    const Json summary = read_json_file(out / "nvfp4" / "summary.json");
    EXPECT_EQ(summary["linears"].size(), 14u) << "the records of all ranks";
    EXPECT_EQ(summary["digest"], result.outputs[0].digest);
    cluster_.ranks().barrier();
  }
}

TEST_F(QuantizeTest, OnePassForTwoFormatsEqualsTwoPasses) {
  const Recipe fp8 = preset_with_cache("fp8", "fp8");
  const Recipe nvfp4 = preset_with_cache("nvfp4", "fp8_cast");
  const auto both =
      quantize_to(folder_.path() / "both", checkpoint_, {fp8, nvfp4}, batches_, cluster_);
  const auto first = quantize_to(folder_.path() / "a", checkpoint_, {fp8}, batches_, cluster_);
  const auto second = quantize_to(folder_.path() / "b", checkpoint_, {nvfp4}, batches_, cluster_);
  EXPECT_EQ(both.outputs[0].digest, first.outputs[0].digest);
  EXPECT_EQ(both.outputs[1].digest, second.outputs[0].digest);
  EXPECT_NE(both.outputs[0].digest, both.outputs[1].digest);
}

TEST_F(QuantizeTest, Fp8ScalesAreEachWeightsOwn) {
  const auto result = quantize_to(folder_.path() / "out", checkpoint_,
                                  {preset_with_cache("fp8", "fp8")}, batches_, cluster_);
  const Checkpoint written(result.outputs[0].dir);
  const auto plan = plan_target(*model_, preset_with_cache("fp8", "fp8"));
  for (size_t s = 0; s < model_->stages().size(); ++s) {
    const StageSpec& stage = model_->stages()[s];
    for (size_t i = 0; i < stage.linears.size(); ++i) {
      if (!plan.stages[s].linears[i].quantized()) continue;
      const at::Tensor weight = tensor_of(checkpoint_, stage.linears[i].weight);
      EXPECT_EQ(tensor_of(written, stage.linears[i].name + ".weight_scale").item<float>(),
                weight.abs().max().to(at::kFloat).item<float>() / 448.0f);
    }
  }
}

TEST_F(QuantizeTest, ACacheThatSawNothingIsAnError) {
  if (cluster_.size() > 1) GTEST_SKIP() << "only the rank that owns the scales finds it";
  expect_error<InputError>(
      [&] {
        quantize_to(folder_.path() / "out", checkpoint_, {preset_with_cache("int8_wo", "fp8")}, {},
                    cluster_);
      },
      "calibrate layer 0: 'model.layers.0.self_attn' saw no token in calibration");
  EXPECT_FALSE(fs::exists(folder_.path() / "out" / "int8_wo"));
}

TEST_F(QuantizeTest, WithoutBatchesOnlyWeightOnlyFormatsWork) {
  const auto result = quantize_to(folder_.path() / "w", checkpoint_,
                                  {preset_with_cache("int8_wo", "fp8_cast")}, {}, cluster_);
  EXPECT_EQ(result.outputs[0].fallbacks, 0);
  expect_error<InputError>(
      [&] {
        quantize_to(folder_.path() / "x", checkpoint_, {load_preset("fp8", "ptq")}, {}, cluster_);
      },
      "calibrate layer 0: 'model.layers.0.self_attn.q_proj' saw no token");
}

TEST_F(QuantizeTest, ZeroWeightsAreCountedAsFallbacks) {
  Tensors tensors = tiny_tensors(*model_);
  tensors["model.layers.1.mlp.down_proj.weight"].zero_();
  const Checkpoint zero = shared_checkpoint(folder_, tiny_config(), tensors, "zero");
  const auto result =
      quantize_to(folder_.path() / "z", zero, {load_preset("nvfp4", "ptq")}, batches_, cluster_);
  EXPECT_EQ(result.outputs[0].fallbacks, 1);
  const Json summary = read_json_file(folder_.path() / "z" / "nvfp4" / "summary.json");
  const Json& record = summary["linears"]["model.layers.1.mlp.down_proj"];
  EXPECT_EQ(record["fallback"], "the weight is all zero");
  EXPECT_TRUE(record["sqnr_db"].is_null());
}

TEST_F(QuantizeTest, WeightsThatTheModelsDtypeCannotHold) {
  Json config = tiny_config();
  config["torch_dtype"] = "float16";
  Tensors tensors = tiny_tensors(*model_, at::kFloat);
  tensors["model.layers.0.mlp.up_proj.weight"][0][0] = 1e6;
  const Checkpoint large = shared_checkpoint(folder_, config, tensors, "large");
  expect_error<InputError>(
      [&] {
        quantize_to(folder_.path() / "l", large, {load_preset("int8_wo", "ptq")}, {}, cluster_);
      },
      "'model.layers.0.mlp.up_proj.weight' holds 1e+06, which is infinite in F16");
  tensors["model.layers.0.mlp.up_proj.weight"][0][0] = 1;
  tensors["lm_head.weight"][0][0] = 1e6;
  const Checkpoint head = shared_checkpoint(folder_, config, tensors, "head");
  // Behind an error the ranks' loading threads may not meet again.
  TestCluster another;
  quantize_to(folder_.path() / "h", head, {load_preset("int8_wo", "ptq")}, {}, another);
}

}  // namespace
}  // namespace halftone::test
