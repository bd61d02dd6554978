#pragma once

#include "model/attention_block.h"

namespace halftone {

// proj(activation(gate(x)) * up(x)), the linears named in `spec`'s way under `name`.
struct GatedPlan {
  std::string name = {};
  int64_t hidden = 0;
  int64_t intermediate = 0;
  Activation activation = Activation::kSilu;
  bool fused = false;  // gate_up_proj
  bool bias = false;
  bool folds_into_previous = false;
  // gate, up, down: the names of the linears, and of the modules in TensorRT-LLM checkpoints.
  std::vector<std::string> linears = {"gate_proj", "up_proj", "down_proj"};
  std::vector<std::string> trtllm = {"", "", ""};
  int expert = -1;
};

class GatedMlp : public Block {
 public:
  GatedMlp(const GatedPlan& plan, StageBuilder& builder);

  int input_group() const { return group_; }
  // x [B, T, H] or [tokens, H]
  at::Tensor run(const StageCall& call, const at::Tensor& x) const;
  at::Tensor forward(const StageCall& call, const at::Tensor& x_BTH,
                     const std::vector<Rope>& /*ropes*/) const override {
    return run(call, x_BTH);
  }

 private:
  bool fused_;
  Activation activation_;
  int group_ = -1;
  size_t gate_ = 0, up_ = 0, down_ = 0;  // gate_: both where they are one tensor
};

}  // namespace halftone
