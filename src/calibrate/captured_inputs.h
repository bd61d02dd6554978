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

  // What one batch, or one part of a stage for it, showed.
  void add(size_t position, const std::vector<at::Tensor>& captured) {
    if (inputs.size() <= position) inputs.resize(position + 1);
    std::vector<at::Tensor>& into = inputs[position];
    into.resize(captured.size());
    for (size_t i = 0; i < captured.size(); ++i) {
      if (captured[i].defined()) into[i] = captured[i];
    }
  }
};

}  // namespace halftone
