#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/json.h"

namespace halftone {

// Names and layouts of Megatron-core's GPT models against those of Hugging Face.

// Consecutive elements of a stored tensor that are consecutive in one of the model.
struct ElementRun {
  int64_t from = 0;  // in the stored one, row-major
  int64_t to = 0;    // in the model's
  int64_t count = 0;
};

// A tensor of the model as parts of a stored one, `runs` in the order of `to` without gaps.
struct MappedTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<ElementRun> runs;
};

// What of a model's config.json decides about the layout.
struct MegatronShape {
  std::string model_type;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t groups = 0;  // heads of keys and values
  int64_t head_dim = 0;
  int64_t vocabulary = 0;
  int64_t experts = 0;  // 0: none
};
// A model_type for which the names are not known is an InputError.
MegatronShape megatron_shape(const Json& config, const std::string& source);

// Why an entry of the checkpoint is no part of the model; empty: it is one, or unknown.
std::string reason_to_drop(const std::string& key);
// Without "module." and "model." in front.
std::string plain_key(const std::string& key);
// The tensors of the model that an entry holds. A name that has no place in this model, a shape
// that contradicts config.json: InputErrors that name `source`.
std::vector<MappedTensor> map_megatron_tensor(const std::string& key,
                                              const std::vector<int64_t>& shape,
                                              const MegatronShape& model,
                                              const std::string& source);

}  // namespace halftone
