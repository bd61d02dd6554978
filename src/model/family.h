#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "model/model.h"

namespace halftone {

// A model family: one file in families/, one line in the registry (family.cpp).
struct Family {
  std::string name;
  std::vector<std::string> architectures;  // as in config.json
  std::string description;
  // Reads config.json; unsupported or contradictory values are InputErrors naming the key.
  std::unique_ptr<Model> (*make)(const Json& config, const std::string& source);
};

const std::vector<Family>& families();

// The family of the checkpoint's architecture; InputError listing the supported ones otherwise.
const Family& family_of(const Checkpoint& checkpoint);

// Makes the model and checks every tensor's presence, dtype and shape against the checkpoint, from
// the headers alone. `quantized` tells which weights are stored otherwise (their check is the
// codec's).
std::unique_ptr<Model> make_model(const Checkpoint& checkpoint);
void check_tensor(const Checkpoint& checkpoint, const TensorNeed& need);
void check_tensors(const Checkpoint& checkpoint, const Model& model);

}  // namespace halftone
