#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "export/check_headers.h"
#include "kernels/thread_pool.h"

namespace halftone {

// The linears of a checkpoint, original or exported, as the weights that they stand for.
// Thread-safe.
class LinearWeights {
 public:
  // InputError where the model or the quantization is not known.
  LinearWeights(const Checkpoint& checkpoint, const std::string& family, ThreadPool& pool);

  // Linear -> the stored tensors that make its weight.
  const std::map<std::string, std::vector<std::string>>& tensors() const { return tensors_; }
  // F32 [out, in]: dequantized, with what is stored beside it (pre-quantization scale, low-rank
  // branch).
  at::Tensor weight(const std::string& linear) const;

 private:
  struct Place {
    size_t stage = 0;
    size_t linear = 0;
    size_t tensor = 0;  // of the stage's, in an original
  };
  void add_linear(size_t stage, size_t linear);
  at::Tensor dequantized(const Place& place) const;

  const Checkpoint& checkpoint_;
  std::unique_ptr<Model> model_;
  std::optional<SourceLayout> original_;
  HeaderCheck headers_;  // of an exported one
  DType dtype_;
  ThreadPool& pool_;
  std::map<std::string, Place> places_;
  std::map<std::string, std::vector<std::string>> tensors_;
};

}  // namespace halftone
