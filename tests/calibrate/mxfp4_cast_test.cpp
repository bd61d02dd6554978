// The worked example of formats-and-hf-export.md, 8.10, and what surrounds it.
#include "calibrate/mxfp4_cast.h"

#include <gtest/gtest.h>

#include <cmath>

#include "formats/low_bit_source.h"
#include "tests/calibrate/stage_case.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

at::Tensor bytes_tensor(const std::string& hex, const std::vector<int64_t>& shape) {
  at::Tensor tensor = at::empty(shape, at::kByte);
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    tensor.view(-1)[i] =
        static_cast<uint8_t>(std::stoi(hex.substr(static_cast<size_t>(2 * i), 2), nullptr, 16));
  }
  return tensor;
}

// E2M1 under E8M0 exponents, low nibble first.
at::Tensor mxfp4_values(const at::Tensor& blocks_NB16, const at::Tensor& exponents_NB) {
  const float table[] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  const int64_t rows = blocks_NB16.size(0);
  at::Tensor w = at::empty({rows, blocks_NB16.size(1) * 32}, at::kFloat);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < w.size(1); ++c) {
      const auto byte = blocks_NB16[r][c / 32][c % 32 / 2].item<uint8_t>();
      const int code = c % 2 == 0 ? byte & 15 : byte >> 4;
      const float x = std::ldexp(table[code & 7], exponents_NB[r][c / 32].item<uint8_t>() - 127);
      w[r][c] = code & 8 ? -x : x;
    }
  }
  return w.to(at::kBFloat16);
}

class Mxfp4Cast : public testing::Test {
 protected:
  // A stack of two experts whose second one has smaller exponents.
  SolvedStage solve(StageCase& stage) {
    const auto ranks = make_mpi_communicator(test_world());
    ThreadPool pool(1);
    const std::vector<float> amaxes(stage.stage.linears.size(), 1.0f);
    const StageStatistics statistics = unseen_statistics(stage.stage);
    SolvedStage solved{statistics, {}, {}};
    const StageRun run{
        stage.stage,  stage.plan,   stage.recipe,
        statistics,   amaxes,       [&](const std::string& name) { return stage.tensors.at(name); },
        DType::kBF16, DType::kBF16, Numerics::kCpu,
        *ranks,       pool,         [&](const std::string& name) { return exponents_.at(name); }};
    solved.solution = solve_stage(run, nullptr, solved.choices);
    return solved;
  }

  std::map<std::string, at::Tensor> exponents_;
};

TEST_F(Mxfp4Cast, WorkedExample) {
  const at::Tensor blocks = bytes_tensor(
      "0724415e7b98b5d2ef0c294663809dba659acf04396ea3d80d4277ace1164b80"
      "0011223300112233001122330011223300000000000000000000000000000000",
      {2, 2, 16});
  const at::Tensor exponents = at::tensor({120, 118, 99, 0}, at::kByte).view({2, 2});
  StageCase stage;
  stage.dtype = at::kBFloat16;
  stage.recipe.algorithms = {{"max", Json::object(), 0}};
  stage.add("linear", mxfp4_values(blocks, exponents), make_nvfp4_codec({}));
  exponents_["linear.weight"] = exponents;
  const SolvedStage solved = solve(stage);
  const PackedLinear packed = stage.packed(solved, 0);
  EXPECT_EQ(solved.solution.linears[0].weight_amax, 0.08203125f);
  EXPECT_EQ(packed.at("weight_scale_2").item<float>(), std::ldexp(1.0f, -15));
  EXPECT_TRUE(at::equal(packed.at("weight_scale"), bytes_tensor("7878686801017e7e", {2, 4})));
  EXPECT_TRUE(at::equal(packed.at("weight"), bytes_tensor("0724415e7b90b5d2ef0c294663009dba"
                                                          "659acf04396ea3d00d4277ace1164b00" +
                                                              std::string(64, '0'),
                                                          {2, 32})));
}

TEST_F(Mxfp4Cast, AStackSharesTheSecondScaleAndLosesNothing) {
  StageCase stage;
  stage.dtype = at::kBFloat16;
  for (int e = 0; e < 2; ++e) {
    at::Tensor blocks = at::empty({4, 2, 16}, at::kByte);
    for (int64_t i = 0; i < blocks.numel(); ++i) {
      // Without negative zeros, which come back positive.
      const auto low = static_cast<int>((i * 7 + e) % 8);
      blocks.view(-1)[i] = static_cast<uint8_t>(low | (i % 7 + 9) << 4);
    }
    const at::Tensor exponents =
        (at::arange(8, at::kLong) * 2 + (e == 0 ? 106 : 104)).to(at::kByte).view({4, 2});
    LinearSite site;
    site.name = "experts." + std::to_string(e) + ".down_proj";
    site.expert = e;
    site.role = "down_proj";
    site.stacked = "experts.down_proj";
    stage.add(site, mxfp4_values(blocks, exponents), make_nvfp4_codec({}), InputKind::kNone);
    exponents_[site.name + ".weight"] = exponents;
  }
  const SolvedStage solved = solve(stage);
  for (size_t i = 0; i < 2; ++i) {
    const PackedLinear packed = stage.packed(solved, i);
    EXPECT_EQ(packed.at("weight_scale_2").item<float>(), std::ldexp(1.0f, 120 - 127 - 8));
    const at::Tensor back = stage.plan.linears[i].codec->unpack(packed, at::kBFloat16, nullptr);
    EXPECT_TRUE(at::equal(back, stage.tensors.at(stage.stage.linears[i].weight))) << i;
  }
}

TEST_F(Mxfp4Cast, OtherFormatsKeepTheirScales) {
  StageCase stage;
  stage.dtype = at::kBFloat16;
  const at::Tensor exponents = at::full({2, 1}, 120, at::kByte);
  stage.add("fp8", numbers({2, 32}, 1), make_fp8_codec());
  stage.add("wide", numbers({2, 32}, 1), make_nvfp4_codec({.block = 32, .amax_divisor = 448.0f}));
  stage.add("plain", numbers({2, 32}, 1), make_nvfp4_codec({}));
  exponents_ = {{"fp8.weight", exponents}, {"wide.weight", exponents}, {"plain.weight", {}}};
  const SolvedStage solved = solve(stage);
  for (const LinearSolution& linear : solved.solution.linears) {
    EXPECT_EQ(linear.block_amax.kind, BlockAmaxRule::Kind::kOwn);
    EXPECT_EQ(linear.weight_amax, 1.0f);
  }
}

}  // namespace
}  // namespace halftone::test
