#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace halftone {

// d(sum of outputs times their gradients) / d inputs, undefined where an output does not depend on
// an input. The graph is gone afterwards. Outputs that depend on nothing are left out.
std::vector<at::Tensor> gradients_of(const std::vector<at::Tensor>& outputs,
                                     const std::vector<at::Tensor>& output_gradients,
                                     const std::vector<at::Tensor>& inputs);

// The same values as the beginning of a graph of their own; what is undefined or holds integers
// stays as it is.
at::Tensor as_leaf(const at::Tensor& tensor);

}  // namespace halftone
