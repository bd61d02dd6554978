#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "model/model.h"

namespace halftone {

// What a family makes a model of.
struct ModelInput {
  const Json& config;
  std::string source;  // config.json's path, for errors
  // Whether the checkpoint holds a tensor: names have prefixes that config.json does not tell.
  std::function<bool(const std::string&)> has_tensor;
};

// A published model, or several of one kind.
struct PublishedModel {
  std::string name;
  // What shapes follow from in its config.json, layers and experts being fewer: JSON.
  std::string config;
};

// A model family: one file in families/, one line in the registry (family.cpp).
struct Family {
  std::string name;
  std::vector<std::string> architectures;  // as in config.json
  std::string description;
  std::vector<PublishedModel> published = {};  // rows of the support matrix
  // Reads config.json; unsupported or contradictory values are InputErrors naming the key.
  std::unique_ptr<Model> (*make)(const ModelInput& input) = nullptr;
  // The family's decoder type in TensorRT-LLM checkpoints; empty: that format has no path for it.
  std::string trtllm_decoder = {};
};

const std::vector<Family>& families();

// The family of the checkpoint's architecture; InputError listing the supported ones otherwise.
const Family& family_of(const Checkpoint& checkpoint);

// The family of that name; an unknown one is a UsageError.
const Family& family_named(const std::string& name);

// `family`: take the checkpoint for one of this family whatever its architecture; empty: of its
// own.
std::unique_ptr<Model> make_model(const Checkpoint& checkpoint, const std::string& family = "");

}  // namespace halftone
