#include "model/stage.h"

#include <ATen/ATen.h>

#include "kernels/check.h"

namespace halftone {

const at::Tensor& StageWeights::at(const std::string& name) const {
  const auto found = tensors_.find(name);
  check(found != tensors_.end(), "a stage uses only the tensors that it lists: " + name);
  return found->second;
}

at::Tensor StageWeights::get(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? at::Tensor() : found->second;
}

void StageWeights::own(const at::Tensor& bytes) {
  if (!bytes.defined()) return;
  for (auto& [name, tensor] : tensors_) {
    if (tensor.storage().is_alias_of(bytes.storage())) tensor = tensor.clone();
  }
}

}  // namespace halftone
