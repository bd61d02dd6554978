#pragma once

#include <optional>

#include "model/feed_forward.h"

namespace halftone {

// A mixture of experts, computed in parts: begin() routes and adds the shared expert, run() adds a
// range of experts in ascending order, finish() puts their sum back. The result is the same bit for
// bit for any division into ranges.
class ExpertsBlock {
 public:
  // `name`: "model.layers.3.mlp"; tensors and sites are added to `builder`.
  ExpertsBlock(const DecoderSpec& model, const FeedForwardSpec& spec, const std::string& name,
               StageBuilder& builder);

  // x: the block's input, `residual`: what its output is added to.
  ExpertStates begin(const StageCall& call, const at::Tensor& x_BTH,
                     const at::Tensor& residual_BTH) const;
  void run(const StageCall& call, int64_t begin, int64_t end, ExpertStates& states) const;
  static at::Tensor finish(const ExpertStates& states);

 private:
  struct Stacked {
    size_t gate_up = 0;
    size_t down = 0;
  };
  void add_separate(const DecoderSpec& model, const FeedForwardSpec& spec, const std::string& name,
                    StageBuilder& builder);
  void add_stacked(const DecoderSpec& model, const std::string& name, StageBuilder& builder);
  Routing choose(const StageCall& call, const at::Tensor& x_TH) const;
  at::Tensor expert(const StageCall& call, int64_t index, const at::Tensor& x_TH) const;
  at::Tensor gated(const at::Tensor& gate_up) const;

  ExpertsSpec spec_;
  Activation activation_;
  std::string router_;
  std::string correction_;
  std::string shared_gate_;
  std::optional<GatedMlp> shared_;
  std::vector<GatedMlp> separate_;
  std::vector<Stacked> stacked_;
};

}  // namespace halftone
