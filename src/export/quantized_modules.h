#pragma once

#include <string>
#include <vector>

#include "calibrate/target_plan.h"

namespace halftone {

// The modules of a checkpoint as its configuration names them.
struct QuantizedModules {
  struct Module {
    std::string name;
    size_t stage = 0;  // of its (first) linear in the model
    size_t linear = 0;
  };
  std::vector<Module> quantized;  // in module order
  std::vector<std::string> unquantized;
  // Layers that predict further tokens and are there, "model.layers.61".
  std::vector<std::string> next_token;
  KvFormat kv = KvFormat::kNone;
};

// `extra`: the checkpoint's tensors that belong to no stage.
QuantizedModules quantized_modules(const Model& model, const std::vector<StagePlan>& stages,
                                   const std::vector<TensorSpec>& extra);

}  // namespace halftone
