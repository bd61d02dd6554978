#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace halftone {

// What a checkpoint has against it.
struct Finding {
  std::string rule;    // "zero-scale"; README.md lists them
  std::string tensor;  // a tensor or a module; empty: the whole file
  std::string file;    // its name in the folder; empty: none holds it
  std::string expected;
  std::string found;
  bool warning = false;  // the checkpoint is served, but perhaps not as it was meant
};
using Findings = std::vector<Finding>;

// "zero-scale: 'model.layers.0…' in 'model.safetensors': expected more than 0, found 0"
std::string text_of(const Finding& finding);
Json to_json(const Finding& finding);
Finding finding_of(const Json& json);

int64_t problems_in(const Findings& findings);  // warnings left out

}  // namespace halftone
