#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "model/linear_runner.h"

namespace halftone {

enum class StageKind { kEmbedding, kLayer, kHead };

// A tensor that a stage needs, under its name on disk.
struct TensorNeed {
  std::string name;
  std::vector<int64_t> shape;
};

// One step of the layer-outer engine: its tensors, and the places where a LinearRunner is called.
struct StageSpec {
  std::string name;  // "embedding", "layer 3", "head"
  StageKind kind = StageKind::kLayer;
  std::vector<TensorNeed> tensors;  // in module order; linears' weights and biases included
  std::vector<LinearSite> linears;
  std::vector<AttentionSite> attentions;
  std::vector<NormSite> norms;
};

// The tensors of one stage in the compute dtype, by name on disk.
class StageWeights {
 public:
  void set(const std::string& name, at::Tensor tensor) { tensors_[name] = std::move(tensor); }
  // A name that the stage did not ask for is a programmer's error.
  const at::Tensor& at(const std::string& name) const;
  // Undefined where there is none (a bias).
  at::Tensor get(const std::string& name) const;

 private:
  std::map<std::string, at::Tensor> tensors_;
};

}  // namespace halftone
