#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace halftone {

// The inputs of a stage's linears for the batches of this rank, in the compute dtype: what searches
// run over. Linears that read one tensor share it. Padded positions are left out unless they count.
struct CapturedInputs {
  std::vector<int64_t> batches;  // of this rank, in order
  int64_t total_batches = 0;     // of all ranks
  // [position of the batch][linear]: x_TK [tokens, in]; undefined where the linear saw no token.
  std::vector<std::vector<at::Tensor>> inputs;
};

}  // namespace halftone
