#pragma once

#include <string>
#include <vector>

#include "model/blocks.h"
#include "model/stage.h"

namespace halftone {

// A linear to add to a stage. Tensors are named after it: name.weight, name.bias.
struct LinearPlan {
  std::string name = {};
  int64_t out = 0;
  int64_t in = 0;
  bool bias = false;
  int group = -1;
  ShardAxis shard = ShardAxis::kNone;
  std::string trtllm = {};
  int expert = -1;
  std::string role = {};
  // Experts that share a tensor on disk: its name and how many there are.
  std::string stacked = {};
  int64_t stack = 0;
};

// Puts a stage together: sites with their tensors, in module order.
class StageBuilder {
 public:
  StageBuilder(const std::string& name, StageKind kind);

  int new_group() { return groups_++; }
  // The index of the site.
  size_t linear(const LinearPlan& plan);
  size_t attention(AttentionSite site);
  // A norm whose tensors come behind those of the modules; `group`: of the linears that alone read
  // it, -1: none.
  Norm norm(const Norm& kind, const std::string& name, int64_t size, int group = -1);
  // The same with its tensors here.
  Norm inner_norm(const Norm& kind, const std::string& name, int64_t size);
  void tensor(TensorNeed need) { stage_.tensors.push_back(std::move(need)); }
  void plain_module(const std::string& name) { stage_.plain_modules.push_back(name); }
  void experts(int64_t count, int64_t per_token, bool averages_scales) {
    stage_.experts = static_cast<int>(count);
    stage_.experts_per_token = static_cast<int>(per_token);
    stage_.averages_expert_scales = averages_scales;
  }
  void set_previous(size_t site, size_t previous);

  StageSpec finish();

 private:
  Norm named(const Norm& kind, const std::string& name, int64_t size,
             std::vector<TensorNeed>& tensors);

  StageSpec stage_;
  std::vector<TensorNeed> last_tensors_;
  int groups_ = 0;
};

// What the blocks of a stage compute with.
struct StageCall {
  const StageSpec& stage;
  const StageWeights& weights;
  const BatchContext& batch;
  LinearRunner& runner;

  at::Tensor linear(size_t site, const at::Tensor& x) const;
};

}  // namespace halftone
