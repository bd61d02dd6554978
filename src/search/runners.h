#pragma once

#include <set>
#include <vector>

#include "search/candidate_stage.h"
#include "search/search_space.h"

namespace halftone {

// Computes plainly and keeps what each linear read and, within the graph, gave.
class TapRunner : public PlainRunner {
 public:
  explicit TapRunner(size_t linears) : inputs(linears), outputs(linears) {}

  at::Tensor linear(size_t site, const at::Tensor& x_BTK, const at::Tensor& w_NK,
                    const at::Tensor& bias_N) override {
    inputs[site] = x_BTK.detach();
    outputs[site] = PlainRunner::linear(site, x_BTK, w_NK, bias_N);
    return outputs[site];
  }

  std::vector<at::Tensor> inputs;
  std::vector<at::Tensor> outputs;
};

// Computes plainly but for the linears of one group, which a candidate serves.
class CandidateRunner : public PlainRunner {
 public:
  // Null: everything plainly.
  CandidateRunner(const CandidateStage* candidate, const LinearGroup& group)
      : candidate_(candidate), served_(group.linears.begin(), group.linears.end()) {}

  at::Tensor linear(size_t site, const at::Tensor& x_BTK, const at::Tensor& w_NK,
                    const at::Tensor& bias_N) override {
    if (candidate_ == nullptr || served_.count(site) == 0) {
      return PlainRunner::linear(site, x_BTK, w_NK, bias_N);
    }
    return candidate_->run(site, x_BTK, candidate_->weight(site, nullptr), bias_N);
  }

 private:
  const CandidateStage* candidate_;
  std::set<size_t> served_;
};

}  // namespace halftone
