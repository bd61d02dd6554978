#pragma once

#include <set>
#include <string>
#include <vector>

#include "formats/stored_tensor.h"
#include "io/checkpoint.h"
#include "model/model.h"

namespace halftone {

// A checkpoint as the source of a model: how every tensor that the model needs is stored there,
// and what else it holds. From the headers alone. A tensor that is missing, whose shape contradicts
// config.json, or that belongs to a layer or an expert which config.json does not count is an
// InputError.
class SourceLayout {
 public:
  SourceLayout(const Checkpoint& checkpoint, const Model& model);

  const Checkpoint& checkpoint() const { return checkpoint_; }
  // The dtype in which the model is quantized and low-bit weights are decoded.
  DType dtype() const { return dtype_; }
  // Per stage, in the order of StageSpec::tensors.
  const std::vector<std::vector<StoredTensor>>& stages() const { return stages_; }
  // Tensors that no stage needs, in name order, tied copies of others among them.
  const std::vector<StoredTensor>& extra() const { return extra_; }

 private:
  void add_stage(const StageSpec& stage);
  void check_numbered(const Model& model) const;
  void add_extra();

  const Checkpoint& checkpoint_;
  DType dtype_;
  std::vector<std::vector<StoredTensor>> stages_;
  std::vector<StoredTensor> extra_;
  std::set<std::string> used_;  // names on disk
};

// How a tensor is stored; low bits are decoded to `dtype`.
StoredTensor locate(const Checkpoint& checkpoint, const TensorNeed& need, DType dtype);
// The same of one that is stored plainly, alone or in a stack.
StoredTensor locate_plain(const Checkpoint& checkpoint, const TensorNeed& need);

// The bytes on disk of a stage's tensors.
int64_t bytes_of(const std::vector<StoredTensor>& stage);

}  // namespace halftone
