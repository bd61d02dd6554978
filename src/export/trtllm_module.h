#pragma once

#include "export/reshard_builder.h"
#include "export/trtllm_form.h"

namespace halftone {

// One module of a rank's file and where its rows and columns come from.
struct ModulePlace {
  size_t file = 0;
  std::string name;  // "transformer.layers.0.mlp.fc"
  int64_t t = 0;     // of `tp` tensor-parallel ranks
  int64_t tp = 1;
  DType dtype = DType::kBF16;  // of what is not quantized
  int64_t padded_rows = 0;     // 0: as many as there are
  bool returns = true;         // false: another copy of the tensors is what returns
};

// Adds weight, scales and bias of a module of some linears of a stage.
void add_module(const StageSpec& stage, const StagePlan& plan, const TrtModule& module,
                const ModulePlace& place, DType model_dtype, ReshardBuilder& builder);

}  // namespace halftone
