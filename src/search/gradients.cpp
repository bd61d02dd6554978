#include "search/gradients.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "kernels/check.h"

namespace halftone {

std::vector<at::Tensor> gradients_of(const std::vector<at::Tensor>& outputs,
                                     const std::vector<at::Tensor>& output_gradients,
                                     const std::vector<at::Tensor>& inputs) {
  check(outputs.size() == output_gradients.size(), "every output has a gradient");
  std::vector<at::Tensor> ends;
  std::vector<at::Tensor> given;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].defined() || !outputs[i].requires_grad()) continue;
    if (!output_gradients[i].defined()) continue;
    ends.push_back(outputs[i]);
    given.push_back(output_gradients[i]);
  }
  std::vector<at::Tensor> wanted;
  std::vector<size_t> place;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined() || !inputs[i].requires_grad()) continue;
    wanted.push_back(inputs[i]);
    place.push_back(i);
  }
  std::vector<at::Tensor> gradients(inputs.size());
  if (ends.empty() || wanted.empty()) return gradients;
  const std::vector<at::Tensor> found =
      torch::autograd::grad(ends, wanted, given, /*retain_graph=*/false, /*create_graph=*/false,
                            /*allow_unused=*/true);
  for (size_t i = 0; i < found.size(); ++i) gradients[place[i]] = found[i];
  return gradients;
}

at::Tensor as_leaf(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_floating_point()) return tensor;
  return tensor.detach().requires_grad_(true);
}

}  // namespace halftone
