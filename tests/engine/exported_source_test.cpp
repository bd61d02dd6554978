#include <gtest/gtest.h>

#include "engine/weight_source.h"
#include "formats/codecs.h"
#include "model/family.h"
#include "tests/engine/quantize_run.h"

namespace halftone::test {
namespace {

class ExportedSourceTest : public testing::Test {
 protected:
  ExportedSourceTest() : model_(tiny_model(tiny_config())), tensors_(tiny_tensors(*model_)) {}

  // Quantizes the tiny model; the folder of the result.
  fs::path exported(const std::string& format, const std::string& kv) {
    source_.emplace(shared_checkpoint(folder_, tiny_config(), tensors_));
    quantize_to(folder_.path() / "out", *source_, {preset_with_cache(format, kv)}, batches_,
                cluster_);
    return folder_.path() / "out" / format;
  }

  // The export with one word of its weight file replaced by another of the same length.
  void replace(const fs::path& dir, const std::string& from, const std::string& to) const {
    folder_.on_first([&] {
      std::string bytes = read_text_file(dir / "model.safetensors");
      const size_t at = bytes.find(from);
      ASSERT_NE(at, std::string::npos);
      ASSERT_EQ(from.size(), to.size());
      bytes.replace(at, from.size(), to);
      write_text_file(dir / "model.safetensors", bytes);
    });
  }

  void expect_refused(const fs::path& dir, const Json& config, const std::string& part) {
    folder_.on_first([&] { write_text_file(dir / "config.json", config.dump()); });
    const Checkpoint checkpoint(dir);
    expect_error<InputError>(
        [&] {
          const auto model = make_model(checkpoint);
          make_exported_source(checkpoint, *model);
        },
        part);
    cluster_.ranks().barrier();
  }

  TestCluster cluster_;
  SharedFolder folder_;
  std::unique_ptr<Model> model_;
  Tensors tensors_;
  std::optional<Checkpoint> source_;
  std::vector<Batch> batches_ = tiny_batches(5, 2, PadSide::kLeft);
};

TEST_F(ExportedSourceTest, ComputesWhatFakeQuantizationInMemoryDoes) {
  for (const auto& [format, kv] :
       {std::pair("fp8", "fp8"), std::pair("nvfp4", "fp8_cast"), std::pair("int8_wo", "none"),
        std::pair("fp8_pc_pt", "nvfp4"), std::pair("int8_sq", "fp8_affine"),
        std::pair("nvfp4_awq", "fp8"), std::pair("nvfp4_svdquant", "fp8"),
        std::pair("nvfp4_four_over_six", "fp8"), std::pair("nvfp4_gptq", "fp8_cast")}) {
    SCOPED_TRACE(format);
    const Checkpoint checkpoint(exported(format, kv));
    EXPECT_TRUE(is_quantized(checkpoint));
    EXPECT_FALSE(is_quantized(*source_));
    const auto from_file = make_exported_source(checkpoint, *model_);
    const TargetPlan plan = plan_target(*model_, preset_with_cache(format, kv));
    CalibrationOptions options;
    options.show_progress = false;
    const Cluster cluster = cluster_.get();
    const SourceLayout layout(*source_, *model_);
    const SolveContext calibrated{DType::kBF16, options.compute_dtype, Numerics::kCpu, cluster};
    const auto in_memory = make_fake_quant_source(
        layout, *model_, plan,
        calibrate_model(layout, *model_, plan, batches_, options, calibrated),
        {DType::kBF16, DType::kF32, Numerics::kCpu, cluster});
    StageLoader files(checkpoint, plan_loads(from_file->tensors(), INT64_MAX), cluster_.get());
    StageLoader original(*source_, plan_loads(in_memory->tensors(), INT64_MAX), cluster_.get());
    ThreadPool pool(2);
    for (size_t s = 0; s < model_->stages().size(); ++s) {
      const StageWeights a = from_file->weights(s, files.next(), at::kFloat, pool);
      const StageWeights b = in_memory->weights(s, original.next(), at::kFloat, pool);
      for (const TensorNeed& need : model_->stages()[s].tensors) {
        EXPECT_TRUE(at::equal(a.at(need.name), b.at(need.name))) << need.name;
      }
      if (model_->stages()[s].kind != StageKind::kLayer) continue;
      const at::Tensor x = 4.0 * numbers({1, 3, 32}, 7);
      const at::Tensor w = numbers({32, 32}, 8);
      const auto run_a = from_file->make_runner(s);
      const auto run_b = in_memory->make_runner(s);
      EXPECT_LE(relative_error(run_a->linear(0, x, w, {}), run_b->linear(0, x, w, {})), 1e-5);
      EXPECT_EQ(at::equal(run_a->linear(0, x, w, {}), at::linear(x, w)), std::string(kv) == "none");
      const at::Tensor k = numbers({1, 2, 3, 8}, 9);
      EXPECT_LE(relative_error(run_a->key_value(0, k, k).second, run_b->key_value(0, k, k).second),
                1e-5);
      EXPECT_EQ(at::equal(run_a->key_value(0, k, k).first, k), std::string(kv) == "none");
    }
  }
}

TEST_F(ExportedSourceTest, RefusesForeignConfigurations) {
  const fs::path dir = exported("fp8", "fp8");
  const Json good = read_json_file(dir / "config.json");
  const auto with = [&](const char* key, const Json& value) {
    Json config = good;
    config["quantization_config"][key] = value;
    return config;
  };
  for (const Json& odd : {Json(3), Json("fp8"), Json::array(), Json(true)}) {
    Json config = good;
    config["quantization_config"] = odd;
    expect_refused(dir, config, "'quantization_config' must be an object");
  }
  expect_refused(dir, with("quant_method", "hqq"), "quant_method 'hqq' cannot be read yet");
  expect_refused(dir, with("quant_method", nullptr), "quant_method '' cannot be read yet");
  expect_refused(dir, with("quant_method", 7), "'quant_method' must be a string");
  expect_refused(dir, with("quant_algo", "W4A16"), "is stored as 'W4A16', which cannot be");
  expect_refused(dir, with("quant_algo", "W4A16_AWQ"), "is [32, 32]: INT4 needs");
  expect_refused(dir, with("quant_algo", {1}), "'quant_algo' must be a string");
  expect_refused(dir, with("quant_algo", "NVFP4"), "is F8_E4M3 [32, 32]; expected U8 [32, 16]");
  expect_refused(dir, with("quant_algo", "MIXED_PRECISION"), "is stored as '', which cannot be");
  expect_refused(dir, with("kv_cache_scheme", "INT8"), "this kv_cache_scheme cannot be read");
  expect_refused(dir, with("kv_cache_scheme", "NVFP4_AFFINE"), "lacks its scales");
  expect_refused(dir, with("kv_cache_scheme", {{"num_bits", 4}}), "this kv_cache_scheme cannot");
  expect_refused(dir, with("kv_cache_scheme", {{"num_bits", 8}, {"type", "int"}}),
                 "this kv_cache_scheme cannot");
  expect_refused(dir, with("kv_cache_scheme", {{"num_bits", "8"}}), "this kv_cache_scheme cannot");
  const std::string q_proj = "model.layers.0.self_attn.q_proj";
  for (const Json& entry : {Json(5), Json("FP8"), Json::array({"FP8"}), Json(nullptr)}) {
    expect_refused(dir, with("quantized_layers", {{q_proj, entry}}), "'quant_algo' is missing");
  }
  expect_refused(dir, with("quantized_layers", {{q_proj, {{"quant_algo", "AWQ"}}}}),
                 "'" + q_proj + "' is stored as 'AWQ'");
}

TEST_F(ExportedSourceTest, RefusesTensorsThatDoNotFit) {
  const fs::path dir = exported("nvfp4", "fp8");
  const Json good = read_json_file(dir / "config.json");
  Json config = good;
  config["intermediate_size"] = 64;
  expect_refused(dir, config, "model.layers.0.mlp.gate_proj.weight");
  // Without its scales a packed weight is not one in floating point.
  replace(dir, "up_proj.weight_scale\"", "up_proj.weight_scald\"");
  expect_refused(dir, good, "up_proj.weight'");
}

TEST_F(ExportedSourceTest, BlocksThatAreNotWholeDoNotReachTheKernels) {
  Json config = tiny_config();
  config["intermediate_size"] = 40;
  tensors_ = tiny_tensors(*tiny_model(config));
  // It makes down_proj look like one of the packed weights.
  tensors_["model.layers.0.mlp.down_proj.weight_scale"] = at::zeros({32, 2}, at::kByte);
  const Checkpoint checkpoint = shared_checkpoint(folder_, config, tensors_);
  Recipe recipe = load_preset("nvfp4", "ptq");
  recipe.rules.push_back({"*down_proj*", "", {}, false, "test", 1, false});
  expect_error<VerificationError>(
      [&] { quantize_to(folder_.path() / "out", checkpoint, {recipe}, batches_, cluster_); },
      "excluded-but-quantized");
  const fs::path dir = folder_.path() / ".out.partial" / "nvfp4";
  expect_refused(dir, read_json_file(dir / "config.json"),
                 "'model.layers.0.mlp.down_proj.weight' is [32, 40]: NVFP4 needs");
}

TEST_F(ExportedSourceTest, AStrayInputScaleOfAWeightOnlyFormatIsNotRead) {
  tensors_["model.layers.0.mlp.up_proj.input_scale"] = at::full({}, 1.0, at::kFloat);
  const Checkpoint checkpoint(exported("int8_wo", "none"));
  const auto source = make_exported_source(checkpoint, *model_);
  StageLoader loader(checkpoint, plan_loads(source->tensors(), INT64_MAX), cluster_.get());
  ThreadPool pool(1);
  for (size_t s = 0; s < 2; ++s) source->weights(s, loader.next(), at::kFloat, pool);
}

}  // namespace
}  // namespace halftone::test
