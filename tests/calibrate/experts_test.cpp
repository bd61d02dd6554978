// Mixtures of experts: formats-and-hf-export.md, 3.3.5 and 3.4.
#include "calibrate/experts.h"

#include "dist/reductions.h"
#include "tests/calibrate/stage_case.h"
#include "tests/formats/worked_examples.h"

namespace halftone::test {
namespace {

constexpr int kExperts = 3;

// Three experts of gate, up and down; the inputs of expert e in batch b are its own.
class ExpertsTest : public CollectiveTest {
 protected:
  StageCase block(const std::shared_ptr<const Codec>& codec, InputKind input,
                  const std::vector<int>& tokens) const {
    StageCase one;
    std::vector<at::Tensor> inputs;
    for (int e = 0; e < kExperts; ++e) {
      for (const char* role : {"gate_proj", "up_proj", "down_proj"}) {
        LinearSite site;
        site.name = "experts." + std::to_string(e) + "." + role;
        site.expert = e;
        site.role = role;
        if (std::string(role) != "down_proj") site.fused_group = e;
        const auto index = static_cast<int64_t>(one.stage.linears.size());
        one.add(site, example_w(8, 32) * (1.0 + 0.25 * static_cast<double>(index)), codec, input);
        inputs.push_back(x(e, role, tokens[static_cast<size_t>(e)]));
      }
    }
    one.batches = {inputs};
    return one;
  }
  static at::Tensor x(int expert, const std::string& role, int tokens) {
    if (tokens == 0) return {};
    const double size = role == "down_proj" ? 0.5 : 2.0;
    return example_x(tokens, 32) * size * (expert + 1);
  }
  // Indices of one projection.
  static std::vector<size_t> of_role(const StageCase& one, const std::string& role) {
    std::vector<size_t> list;
    for (size_t i = 0; i < one.stage.linears.size(); ++i) {
      if (one.stage.linears[i].role == role) list.push_back(i);
    }
    return list;
  }
};

TEST_F(ExpertsTest, ShareTheInputScaleOfEachProjection) {
  const StageCase one = block(make_fp8_codec(), InputKind::kFp8, {16, 5, 16});
  const SolvedStage solved = one.solve(*ranks_);
  for (const char* role : {"gate_proj", "up_proj", "down_proj"}) {
    const float expected = largest(x(2, role, 16));
    for (const size_t i : of_role(one, role)) {
      EXPECT_EQ(solved.solution.linears[i].input_amax, expected) << i;
      EXPECT_FALSE(solved.solution.linears[i].record.contains("fallback"));
    }
  }
}

TEST_F(ExpertsTest, WithoutTokensTheyTakeTheirPeersInputAndSaySo) {
  const StageCase one = block(make_nvfp4_codec({}), InputKind::kNvfp4, {16, 0, 7});
  const SolvedStage solved = one.solve(*ranks_);
  for (const char* role : {"gate_proj", "down_proj"}) {
    const float expected = std::max(largest(x(0, role, 16)), largest(x(2, role, 7)));
    for (const size_t i : of_role(one, role)) {
      const LinearSolution& linear = solved.solution.linears[i];
      EXPECT_EQ(linear.input_amax, expected);
      const bool unseen = one.stage.linears[i].expert == 1;
      EXPECT_EQ(linear.record.contains("fallback"), unseen) << i;
      if (unseen) {
        EXPECT_EQ(linear.record["fallback"],
                  "no token reached this expert: the input scale is its peers'");
      }
    }
  }
}

TEST_F(ExpertsTest, ALayerThatNoTokenReached) {
  const StageCase one = block(make_fp8_codec(), InputKind::kFp8, {0, 0, 0});
  for (const LinearSolution& linear : one.solve(*ranks_).solution.linears) {
    EXPECT_EQ(linear.input_amax, 0.5f);
    EXPECT_EQ(linear.record["fallback"], "no token reached this layer's experts: input amax 0.5");
  }
}

// For every format with one amax for the weight, per-tensor FP8 included.
TEST_F(ExpertsTest, GateAndUpOfOneExpertShareTheirAmax) {
  for (const auto& [codec, input] : {std::pair(make_fp8_codec(), InputKind::kFp8),
                                     std::pair(make_nvfp4_codec({}), InputKind::kNvfp4)}) {
    const StageCase one = block(codec, input, {4, 4, 4});
    const SolvedStage solved = one.solve(*ranks_);
    const auto amax = [&](size_t i) { return solved.solution.linears[i].weight_amax; };
    for (size_t e = 0; e < kExperts; ++e) {
      const float up = largest(one.tensors.at(one.stage.linears[3 * e + 1].weight));
      EXPECT_EQ(amax(3 * e), up);
      EXPECT_EQ(amax(3 * e + 1), up);
      EXPECT_EQ(amax(3 * e + 2), largest(one.tensors.at(one.stage.linears[3 * e + 2].weight)));
    }
    EXPECT_NE(amax(0), amax(3)) << "other experts keep theirs";
  }
}

TEST_F(ExpertsTest, RowScalesOfGateAndUpStayTheirOwn) {
  const StageCase one = block(make_int8_codec(), InputKind::kNone, {4, 4, 4});
  const SolvedStage solved = one.solve(*ranks_);
  EXPECT_FALSE(at::equal(one.packed(solved, 0).at("weight_scale"),
                         one.packed(solved, 1).at("weight_scale")));
}

TEST_F(ExpertsTest, PreQuantScalesAreAveragedOverExperts) {
  StageCase one = block(make_int4_codec(16, false), InputKind::kNone, {16, 9, 0});
  // Other channels matter to the second expert.
  for (size_t i = 3; i < 6; ++i) one.batches[0][i] = one.batches[0][i].roll(5, 1);
  const auto own = one;
  one.algorithm("awq_lite");
  const SolvedStage solved = one.solve(*ranks_);
  const auto& linears = solved.solution.linears;
  for (const size_t i : of_role(one, "down_proj")) {
    EXPECT_TRUE(at::equal(linears[i].pre_quant_scale_K, linears[2].pre_quant_scale_K)) << i;
  }
  for (const char* role : {"gate_proj", "up_proj"}) {
    for (const size_t i : of_role(one, role)) {
      EXPECT_TRUE(at::equal(linears[i].pre_quant_scale_K, linears[0].pre_quant_scale_K)) << i;
    }
  }
  // The mean of the experts' own scales; the third had no tokens and enters with 1.
  at::Tensor sum = at::ones({32});
  for (const size_t i : {size_t{2}, size_t{5}}) {
    StageCase alone;
    alone.add("m", own.tensors.at(own.stage.linears[i].weight), make_int4_codec(16, false));
    alone.batches = {{own.batches[0][i]}};
    alone.algorithm("awq_lite");
    sum = sum + alone.solve(*ranks_).solution.linears[0].pre_quant_scale_K;
  }
  EXPECT_TRUE(at::allclose(linears[2].pre_quant_scale_K, sum / 3.0f, 1e-6, 0));
  EXPECT_EQ(linears[8].record["fallback"], "not smoothed: no token reached it");
  // Weights follow the scale that is stored.
  for (size_t i = 0; i < linears.size(); ++i) {
    EXPECT_TRUE(at::allclose(one.edited(solved, i) * linears[i].pre_quant_scale_K,
                             one.tensors.at(one.stage.linears[i].weight), 1e-5, 1e-6))
        << i;
    EXPECT_EQ(one.packed(solved, i).count("pre_quant_scale"), 1u);
  }
}

TEST_F(ExpertsTest, SmoothedInputsShareTheirScaleToo) {
  StageCase one = block(make_nvfp4_codec({}), InputKind::kNvfp4, {16, 9, 0});
  one.algorithm("awq_lite");
  const SolvedStage solved = one.solve(*ranks_);
  for (const char* role : {"gate_proj", "up_proj", "down_proj"}) {
    const std::vector<size_t> members = of_role(one, role);
    const auto amax = solved.solution.linears[members[0]].input_amax;
    ASSERT_TRUE(amax.has_value());
    for (const size_t i : members) EXPECT_EQ(solved.solution.linears[i].input_amax, amax) << i;
  }
}

TEST_F(ExpertsTest, Coverage) {
  const StageCase one = block(make_fp8_codec(), InputKind::kFp8, {16, 0, 5});
  StageCase two = one;
  two.batches.push_back(one.batches[0]);
  const SolvedStage solved = two.solve(*ranks_);
  EXPECT_EQ(expert_coverage(two.stage, solved.statistics, 20).dump(),
            R"({"experts":3,"tokens":[32,0,10],"min_tokens":0,"max_tokens":32,"mean_tokens":14.0,)"
            R"("without_tokens":[1],"floor":20,"below_floor":[1,2]})");
  StageCase dense = one_linear(example_w(2, 32), example_x(2, 32), make_fp8_codec());
  EXPECT_TRUE(expert_coverage(dense.stage, StageStatistics(dense.stage), 1).is_null());
}

}  // namespace
}  // namespace halftone::test
