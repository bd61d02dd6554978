#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "formats/stored_tensor.h"
#include "model/linear_runner.h"

namespace halftone {

enum class StageKind { kEmbedding, kLayer, kHead };

// A tensor that a stage needs.
struct TensorNeed {
  std::string name;  // what the model asks for; the name on disk unless it is stacked there
  std::vector<int64_t> shape;
  int expert = -1;           // read by this routed expert alone; -1: by the rest of the stage
  bool keeps_dtype = false;  // F32 whatever the compute dtype and the checkpoint (router biases)
  StackedSlice stacked = {};
};

// One step of the layer-outer engine: its tensors, and the places where a LinearRunner is called.
struct StageSpec {
  std::string name;  // "embedding", "layer 3", "head"
  StageKind kind = StageKind::kLayer;
  std::vector<TensorNeed> tensors;  // in module order; linears' weights and biases included
  std::vector<LinearSite> linears;
  std::vector<AttentionSite> attentions;
  std::vector<NormSite> norms;
  // Modules with a weight that is never quantized and that engines look for in the list of
  // unquantized ones: embeddings, convolutions, routers.
  std::vector<std::string> plain_modules = {};
  int experts = 0;            // routed experts; 0: none
  int experts_per_token = 0;  // of those
  // Whether exporters give all experts of the layer the mean of their pre-quantization scales
  // (formats-and-hf-export.md, 3.3.5).
  bool averages_expert_scales = true;
};

// The tensors of one stage in the compute dtype, by name.
class StageWeights {
 public:
  void set(const std::string& name, at::Tensor tensor) { tensors_[name] = std::move(tensor); }
  // A name that the stage did not ask for is a programmer's error.
  const at::Tensor& at(const std::string& name) const;
  // Undefined where there is none (a bias).
  at::Tensor get(const std::string& name) const;
  // Copies what is a view of `bytes`, so that it outlives them.
  void own(const at::Tensor& bytes);

 private:
  std::map<std::string, at::Tensor> tensors_;
};

}  // namespace halftone
