#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "calibrate/algorithm.h"
#include "calibrate/fake_quant.h"
#include "calibrate/observer.h"
#include "calibrate/smoothing_plan.h"
#include "dist/mpi_communicator.h"
#include "formats/codecs.h"
#include "formats/tensor_bridge.h"
#include "tests/support/mpi_world.h"

namespace halftone::test {

// What calibrating a stage gave.
struct SolvedStage {
  StageStatistics statistics;
  Choices choices;
  StageSolution solution;
};

// A stage made by hand, with the inputs that its linears see: everything that solve_stage needs.
struct StageCase {
  StageSpec stage;
  StagePlan plan;
  Recipe recipe;
  std::map<std::string, at::Tensor> tensors;     // in the model's dtype, by name
  std::vector<std::vector<at::Tensor>> batches;  // [batch][linear]: x_TK; undefined: not reached
  std::vector<std::vector<at::Tensor>> caches;   // [batch][attention]: keys, taken for values too
  at::ScalarType dtype = at::kFloat;

  StageCase() { recipe.algorithms.clear(); }

  // The site's index; its sizes are the weight's.
  size_t add(LinearSite site, const at::Tensor& w_NK, std::shared_ptr<const Codec> codec,
             InputKind input) {
    site.out = w_NK.size(0);
    site.in = w_NK.size(1);
    site.weight = site.name + ".weight";
    tensors[site.weight] = w_NK.to(dtype);
    stage.linears.push_back(site);
    plan.linears.push_back({std::move(codec), {input, {}}});
    return stage.linears.size() - 1;
  }
  size_t add(const std::string& name, const at::Tensor& w_NK, std::shared_ptr<const Codec> codec,
             InputKind input = InputKind::kNone) {
    LinearSite site;
    site.name = name;
    return add(site, w_NK, std::move(codec), input);
  }

  void algorithm(const std::string& method, const Json& options = Json::object()) {
    recipe.algorithms.push_back({method, options, 0});
  }

  // Batch b belongs to rank b mod size. Collective.
  SolvedStage solve(Communicator& ranks) const { return run(ranks, nullptr); }
  // From the statistics and choices of an earlier run. Collective.
  SolvedStage solve_again(Communicator& ranks, const SolvedStage& earlier) const {
    return run(ranks, &earlier);
  }

  // Every stored tensor of a linear.
  PackedLinear packed(const SolvedStage& solved, size_t linear) const {
    return pack_linear(planned().linears[linear], solved.solution.linears[linear],
                       edited(solved, linear), Numerics::kCpu, nullptr);
  }
  at::Tensor edited(const SolvedStage& solved, size_t linear) const {
    return edited_weight(solved.solution.linears[linear], tensors.at(stage.linears[linear].weight));
  }
  // What the linear answers where it is served.
  at::Tensor served(const SolvedStage& solved, size_t linear, const at::Tensor& x_TK) const {
    const StagePlan full = planned();
    const StageFakeQuant fake =
        make_fake_quant(full.linears, full.kv, solved.solution, dtype, at::Device(at::kCPU));
    return FakeQuantRunner(fake).linear(
        linear, x_TK, full.linears[linear].codec->unpack(packed(solved, linear), dtype, nullptr),
        {});
  }

  // The plan with the places of pre-quantization scales.
  StagePlan planned() const {
    StagePlan full = plan;
    plan_smoothing(stage, recipe, full);
    return full;
  }

 private:
  void observe(Communicator& ranks, StageStatistics& statistics, CapturedInputs& inputs) const {
    const size_t count = std::max(batches.size(), caches.size());
    inputs.total_batches = static_cast<int64_t>(count);
    const BatchContext context;
    for (size_t b = 0; b < count; ++b) {
      if (static_cast<int>(b) % ranks.size() != ranks.rank()) continue;
      Observer observer(stage, context, static_cast<int64_t>(b),
                        {true, true, true, true, true, false});
      for (size_t i = 0; b < batches.size() && i < batches[b].size(); ++i) {
        if (!batches[b][i].defined()) continue;
        observer.linear(i, batches[b][i].to(dtype), tensors.at(stage.linears[i].weight), {});
      }
      for (size_t i = 0; b < caches.size() && i < caches[b].size(); ++i) {
        observer.key_value(i, caches[b][i].to(dtype), caches[b][i].to(dtype));
      }
      statistics.merge(static_cast<int64_t>(b), observer.statistics());
      inputs.batches.push_back(static_cast<int64_t>(b));
      inputs.inputs.push_back(observer.captured());
    }
    statistics.reduce(ranks, inputs.total_batches);
  }

  SolvedStage run(Communicator& ranks, const SolvedStage* earlier) const {
    const StagePlan full = planned();
    SolvedStage solved{StageStatistics(stage), {}, {}};
    CapturedInputs inputs;
    if (earlier == nullptr) {
      observe(ranks, solved.statistics, inputs);
    } else {
      solved.statistics = earlier->statistics;
      solved.choices = earlier->choices;
    }
    std::vector<float> weight_amax;
    for (const LinearSite& linear : stage.linears) {
      weight_amax.push_back(tensors.at(linear.weight).abs().max().to(at::kFloat).item<float>());
    }
    ThreadPool pool(1);
    const StageRun one{stage,
                       full,
                       recipe,
                       solved.statistics,
                       weight_amax,
                       [this](const std::string& name) { return tensors.at(name); },
                       dtype_of(dtype),
                       dtype_of(dtype),
                       Numerics::kCpu,
                       ranks,
                       pool};
    solved.solution = solve_stage(one, earlier == nullptr ? &inputs : nullptr, solved.choices);
    return solved;
  }
};

// The generators of calibration.md, 15.
inline at::Tensor example_w(int64_t out, int64_t in) {
  const at::Tensor o = at::arange(out).unsqueeze(1);
  const at::Tensor i = at::arange(in);
  return ((131 * o + 37 * i).remainder(127) - 63).to(at::kFloat) / 64;
}

inline at::Tensor example_x(int64_t tokens, int64_t in) {
  const at::Tensor t = at::arange(tokens).unsqueeze(1);
  const at::Tensor i = at::arange(in);
  const at::Tensor boost = at::where(i.remainder(16) == 3, 16.0f, 1.0f).to(at::kFloat);
  return ((53 * t + 29 * i).remainder(101) - 50).to(at::kFloat) / 32 * boost;
}

inline std::shared_ptr<const Codec> frozen_nvfp4_codec() {
  return make_nvfp4_codec({16, 2688.0f, true, 448.0f});
}

// One linear and one batch.
inline StageCase one_linear(const at::Tensor& w_NK, const at::Tensor& x_TK,
                            std::shared_ptr<const Codec> codec, InputKind input = InputKind::kNone,
                            at::ScalarType dtype = at::kFloat) {
  StageCase one;
  one.dtype = dtype;
  one.add("m.linear", w_NK, std::move(codec), input);
  one.batches = {{x_TK}};
  return one;
}

// Relative to the largest expected value.
inline void expect_near(const at::Tensor& values, const std::vector<double>& expected,
                        double relative) {
  const at::Tensor flat = values.to(at::kDouble).reshape({-1});
  ASSERT_EQ(flat.numel(), static_cast<int64_t>(expected.size()));
  double most = 0.0;
  for (const double value : expected) most = std::max(most, std::abs(value));
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(flat[static_cast<int64_t>(i)].item<double>(), expected[i], relative * most) << i;
  }
}

// Each relative to itself.
inline void expect_each_near(const at::Tensor& values, const std::vector<double>& expected,
                             double relative) {
  const at::Tensor flat = values.to(at::kDouble).reshape({-1});
  ASSERT_EQ(flat.numel(), static_cast<int64_t>(expected.size()));
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(flat[static_cast<int64_t>(i)].item<double>(), expected[i],
                relative * std::abs(expected[i]))
        << i;
  }
}

class CollectiveTest : public testing::Test {
 protected:
  CollectiveTest() : ranks_(make_mpi_communicator(test_world())) {}

  std::unique_ptr<Communicator> ranks_;
};

}  // namespace halftone::test
