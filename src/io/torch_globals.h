#pragma once

#include <optional>
#include <string_view>

#include "io/pickle.h"
#include "kernels/dtype.h"

namespace halftone {

// The allow-lists of the pickles that PyTorch and Megatron-core write. Nothing of them is ever
// called: a list says what a reader knows the meaning of, or may pass over.

// `.metadata` of a distributed checkpoint.
PickleRules metadata_rules();
// data.pkl of one tensor that torch.save wrote.
PickleRules tensor_rules();
// data.pkl of common.pt: arguments of the training run beside state that is not read.
PickleRules common_rules();

// The dtype of a global such as torch.bfloat16; nullopt: not one that safetensors has.
std::optional<DType> dtype_of_torch(std::string_view module, std::string_view name);
// The dtype of a storage class such as torch.BFloat16Storage.
std::optional<DType> dtype_of_storage(std::string_view module, std::string_view name);

}  // namespace halftone
