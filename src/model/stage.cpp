#include "model/stage.h"

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

}  // namespace halftone
