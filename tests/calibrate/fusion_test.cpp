// formats-and-hf-export.md, 8.7 and 3.3.
#include "calibrate/fusion.h"

#include "core/error.h"
#include "tests/calibrate/stage_case.h"
#include "tests/core/temporary_folder.h"
#include "tests/formats/worked_examples.h"

namespace halftone::test {
namespace {

at::Tensor bf16(const std::vector<float>& values, const std::vector<int64_t>& shape) {
  return at::tensor(values).view(shape).to(at::kBFloat16);
}

// Two linears of a fused group behind a norm, smoothed already, as AWQ would leave them.
class FusionTest : public CollectiveTest {
 protected:
  FusionTest() {
    case_.dtype = at::kBFloat16;
    const at::Tensor q = bf16({1, -.5, .25, 2, .75, 1.5, -1.25, .5}, {2, 4});
    const at::Tensor k = bf16({.5, .25, -2, 1, 1.75, -.375, .625, -1}, {2, 4});
    for (const auto& [name, w] : {std::pair("q_proj", q), std::pair("k_proj", k)}) {
      LinearSite site;
      site.name = name;
      site.fused_group = 0;
      case_.add(site, w, make_int4_codec(4, false), InputKind::kNone);
    }
    case_.stage.norms = {{"norm.weight", "", 0, false}};
    case_.tensors["norm.weight"] = bf16({1, .875, 1.125, .5}, {4});
    case_.algorithm("awq_lite");
    solution_.linears.resize(2);
    solution_.linears[0].pre_quant_scale_K = bf16({1, .5, 2, 1.5}, {4});
    solution_.linears[1].pre_quant_scale_K = bf16({2, 1, .75, .3125}, {4});
  }

  void fuse_all() {
    const StagePlan plan = case_.planned();
    const StageStatistics statistics(case_.stage);
    const std::vector<float> amax(case_.stage.linears.size(), 2.0f);
    ThreadPool pool(1);
    fuse({case_.stage, plan, case_.recipe, statistics, amax,
          [this](const std::string& name) { return case_.tensors.at(name); }, DType::kBF16,
          DType::kBF16, Numerics::kCpu, *ranks_, pool},
         solution_);
  }
  at::Tensor edited(size_t i) const {
    return edited_weight(solution_.linears[i], case_.tensors.at(case_.stage.linears[i].weight));
  }
  PackedLinear packed(size_t i) const {
    return pack_linear(case_.planned().linears[i], solution_.linears[i], edited(i), Numerics::kCpu,
                       nullptr);
  }

  StageCase case_;
  StageSolution solution_;
};

TEST_F(FusionTest, ResmoothesAndFoldsIntoTheNorm) {
  fuse_all();
  expect_each_near(edited(0),
                   {.66796875, -.333984375, .36328125, 3.3125, .5, 1, -1.8203125, .828125}, 0);
  expect_each_near(
      edited(1),
      {.66796875, .333984375, -1.09375, .345703125, 2.328125, -.5, .341796875, -.345703125}, 0);
  expect_each_near(solution_.tensors.at("norm.weight"), {1.5, .65625, 1.546875, .453125}, 0);
  EXPECT_EQ(hex(packed(0).at("weight")), "214f9137");
  EXPECT_EQ(hex(packed(0).at("weight_scale")), "2549f23e9224853e");
  EXPECT_EQ(hex(packed(1).at("weight")), "74e219f2");
  EXPECT_EQ(hex(packed(1).at("weight_scale")), "0000203e2549aa3e");
  EXPECT_EQ(packed(0).size(), 2u) << "the scale is in the norm";
}

TEST_F(FusionTest, NormsThatAddOneAndHaveABias) {
  case_.stage.norms[0].adds_one = true;
  case_.stage.norms[0].bias = "norm.bias";
  case_.tensors["norm.bias"] = bf16({1, 2, 4, 8}, {4});
  fuse_all();
  expect_each_near(solution_.tensors.at("norm.weight"), {2.0, .40625, 1.921875, .359375}, 0);
  expect_each_near(solution_.tensors.at("norm.bias"), {1.5, 1.5, 5.5, 7.25}, 0);
}

// A norm that something else reads too is not among the stage's norms.
TEST_F(FusionTest, WithoutANormOfTheirOwnTheScaleIsStored) {
  case_.stage.norms.clear();
  fuse_all();
  EXPECT_TRUE(solution_.tensors.empty());
  for (size_t i = 0; i < 2; ++i) {
    expect_each_near(packed(i).at("pre_quant_scale"), {1.5, .75, 1.375, .90625}, 0);
  }
}

TEST_F(FusionTest, ALinearAloneIsNeverFolded) {
  case_.stage.linears[1].fused_group = -1;
  fuse_all();
  EXPECT_TRUE(solution_.tensors.empty());
  EXPECT_TRUE(solution_.linears[0].edits.empty());
  expect_each_near(packed(0).at("pre_quant_scale"), {1, .5, 2, 1.5}, 0);
  expect_each_near(packed(1).at("pre_quant_scale"), {2, 1, .75, .3125}, 0);
}

TEST_F(FusionTest, SmoothQuantSharesItsScaleButDoesNotFoldIt) {
  for (LinearFormat& format : case_.plan.linears) {
    format = {make_int8_codec(), {InputKind::kInt8, {}}};
  }
  case_.recipe.algorithms.clear();
  case_.algorithm("smoothquant");
  for (LinearSolution& linear : solution_.linears) linear.input_amax = 3.0f;
  fuse_all();
  EXPECT_TRUE(solution_.tensors.empty());
  for (size_t i = 0; i < 2; ++i) {
    expect_each_near(packed(i).at("pre_quant_scale"), {1.5, .75, 1.375, .90625}, 0);
  }
}

TEST_F(FusionTest, AmaxesAreSharedWhereTheTableSaysSo) {  // 3.3.2 and 3.3.3
  const std::vector<std::pair<std::shared_ptr<const Codec>, bool>> codecs{
      {make_fp8_codec(), false},         {make_nvfp4_codec({}), true},
      {frozen_nvfp4_codec(), true},      {make_int4_codec(4, true), true},
      {make_fp8_tiles_codec(128), true}, {make_int8_codec(), false},
      {make_fp8_tiles_codec(2), false}};
  case_.recipe.algorithms.clear();
  case_.stage.norms.clear();
  for (const auto& [codec, shared] : codecs) {
    SCOPED_TRACE(codec->name());
    for (LinearFormat& format : case_.plan.linears) format = {codec, {InputKind::kFp8, {}}};
    solution_ = {};
    solution_.linears.resize(2);
    for (size_t i = 0; i < 2; ++i) {
      solution_.linears[i].weight_amax = 1.0f + static_cast<float>(i);
      solution_.linears[i].input_amax = 4.0f - static_cast<float>(i);
    }
    fuse_all();
    EXPECT_EQ(solution_.linears[0].weight_amax, shared ? 2.0f : 1.0f);
    EXPECT_EQ(solution_.linears[1].weight_amax, 2.0f);
    EXPECT_EQ(solution_.linears[1].input_amax, 4.0f) << "inputs are always one";
  }
}

TEST_F(FusionTest, AWeightThatOverflowsIsAnError) {
  solution_.linears[0].pre_quant_scale_K = bf16({1e38f, 1, 1, 1}, {4});
  solution_.linears[1].pre_quant_scale_K = bf16({1e-38f, 1, 1, 1}, {4});
  for (LinearFormat& format : case_.plan.linears) format.codec = make_int4_codec(4, true);
  for (LinearFormat& format : case_.plan.linears) format.input.kind = InputKind::kFp8;
  case_.tensors["q_proj.weight"] = bf16({1e38f, 1, 1, 1, 1, 1, 1, 1}, {2, 4});
  expect_error<InputError>([&] { fuse_all(); }, "'q_proj.weight' overflows BF16");
}

// down_proj's scale goes into the rows of up_proj, NVFP4 with AWQ only (3.3.4).
class PreviousTest : public CollectiveTest {
 protected:
  StageCase mlp(const std::shared_ptr<const Codec>& codec, InputKind input) const {
    StageCase one;
    for (int i = 0; i < 2; ++i) {
      LinearSite site;
      site.name = i == 0 ? "gate_proj" : "up_proj";
      site.fused_group = 0;
      if (i == 1) site.bias = "up_proj.bias";
      one.add(site, example_w(64, 32).slice(0, 32 * i, 32 * i + 32), codec, input);
    }
    LinearSite down;
    down.name = "down_proj";
    down.previous = 1;
    one.add(down, example_w(16, 32), codec, input);
    one.tensors["up_proj.bias"] = at::linspace(-1, 1, 32);
    const at::Tensor x = example_x(16, 32);
    one.batches = {{x, x, x.flip(1)}};
    one.algorithm("awq_lite");
    return one;
  }
};

TEST_F(PreviousTest, Nvfp4FoldsTheScaleIntoTheLinearBefore) {
  const StageCase one = mlp(make_nvfp4_codec({}), InputKind::kNvfp4);
  const SolvedStage solved = one.solve(*ranks_);
  const auto& linears = solved.solution.linears;
  EXPECT_FALSE(linears[2].pre_quant_scale_K.defined());
  EXPECT_EQ(one.packed(solved, 2).count("pre_quant_scale"), 0u);
  // What down_proj lost, up_proj's outputs have: W_down (s * up) = W'_down up'.
  const at::Tensor x = example_x(5, 32);
  const at::Tensor up =
      at::linear(x, one.tensors.at("up_proj.weight"), one.tensors.at("up_proj.bias"));
  const at::Tensor served = at::linear(x * linears[1].pre_quant_scale_K, one.edited(solved, 1),
                                       solved.solution.tensors.at("up_proj.bias"));
  EXPECT_TRUE(at::allclose(at::linear(served, one.edited(solved, 2)),
                           at::linear(up, one.tensors.at("down_proj.weight")), 1e-4, 1e-3));
  EXPECT_FALSE(at::allclose(served, up, 1e-2, 1e-2));
  EXPECT_EQ(linears[1].weight_amax,
            std::max(largest(one.edited(solved, 0)), largest(one.edited(solved, 1))))
      << "the amax is taken behind the folding and shared with gate_proj";
}

TEST_F(PreviousTest, OtherwiseItIsStored) {
  const StageCase int4 = mlp(make_int4_codec(16, false), InputKind::kNone);
  EXPECT_EQ(int4.packed(int4.solve(*ranks_), 2).count("pre_quant_scale"), 1u);
  // Shared values: fewer rows than columns behind them.
  StageCase grouped = mlp(make_nvfp4_codec({}), InputKind::kNvfp4);
  grouped.tensors["down_proj.weight"] = example_w(16, 64);
  grouped.stage.linears[2].in = 64;
  grouped.batches[0][2] = example_x(16, 64);
  EXPECT_EQ(grouped.packed(grouped.solve(*ranks_), 2).count("pre_quant_scale"), 1u);
}

TEST(MeanScale, RoundsLikeTheReference) {
  const std::vector<at::Tensor> three{at::tensor({1.f}), at::tensor({1.f}), at::tensor({5.f})};
  EXPECT_EQ(mean_scale(three, Numerics::kCpu).item<float>(), 7.0f / 3.0f);
  EXPECT_EQ(mean_scale(three, Numerics::kCuda).item<float>(), 7.0f * (1.0f / 3.0f));
}

TEST(Resmooth, EqualScalesChangeNothing) {
  LinearSolution linear;
  linear.pre_quant_scale_K = at::tensor({1.f, 2.f});
  resmooth(linear, at::tensor({1.f, 2.f}));
  EXPECT_TRUE(linear.edits.empty());
  resmooth(linear, at::tensor({1.f, 3.f}));
  EXPECT_EQ(linear.edits.size(), 1u);
}

}  // namespace
}  // namespace halftone::test
