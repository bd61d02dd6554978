#pragma once

#include <ATen/core/Tensor.h>

#include "dist/communicator.h"

namespace halftone {

// Gives every rank the root's values; the tensor is on the CPU and contiguous, of one shape and
// type everywhere.
void broadcast_tensor(Communicator& ranks, at::Tensor& tensor, int root);

}  // namespace halftone
