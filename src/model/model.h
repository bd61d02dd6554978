#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "core/json.h"
#include "io/checkpoint.h"
#include "model/stage.h"

namespace halftone {

// What a stage needs to know of the batch that passes through it.
struct BatchContext {
  // Real tokens of each row; positions are 0 .. length-1 in every row, padding included.
  std::vector<TokenRange> tokens;
  int64_t length = 0;
  bool padded = false;
};

// A model as a list of stages. Immutable after prepare(), so batches may run concurrently.
class Model {
 public:
  virtual ~Model() = default;

  virtual const std::vector<StageSpec>& stages() const = 0;
  virtual int64_t hidden_size() const = 0;
  virtual int64_t vocabulary() const = 0;
  virtual int64_t max_positions() const = 0;
  // Names of tensors that a tied checkpoint may hold although the model does not read them, each
  // with the tensor that it equals.
  virtual std::vector<std::pair<std::string, std::string>> tied_tensors() const = 0;

  // Makes the tables (rotary embedding) for sequences of up to `length` tokens.
  virtual void prepare(int64_t length, at::ScalarType dtype, at::Device device) = 0;
  // embedding: input ids [B, T] (int64) to hidden states [B, T, H]; layer: hidden to hidden;
  // head: hidden to logits [B, T, vocabulary].
  virtual at::Tensor forward(size_t stage, const StageWeights& weights, const at::Tensor& input,
                             const BatchContext& batch, LinearRunner& runner) const = 0;
};

// The names on disk of every stage's tensors.
std::vector<std::vector<std::string>> tensor_names(const Model& model);

// The dtype that config.json gives ("dtype" or "torch_dtype"); of the first floating tensor when it
// says nothing.
DType model_dtype(const Checkpoint& checkpoint);

}  // namespace halftone
