#pragma once

#include <cstddef>
#include <vector>

#include "formats/stored_tensor.h"
#include "model/model.h"

namespace halftone {

// One step of loading: a stage, or a part of one.
struct LoadStep {
  size_t stage = 0;
  StagePart part;
  std::vector<StoredTensor> tensors;
};

}  // namespace halftone
