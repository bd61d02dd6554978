#pragma once

#include <map>
#include <string>

#include "core/json.h"
#include "io/checkpoint.h"

namespace halftone {

// What a checkpoint's configuration says of its quantization.
struct StoredQuantization {
  struct Entry {
    std::string algo;
    int64_t group_size = 0;
    bool weight_only = false;  // its config group names weights alone
  };
  Entry uniform;                        // empty algo: none or per layer
  std::map<std::string, Entry> layers;  // by module
  Json kv_scheme;
};

// Reads config.json's quantization_config, and hf_quant_config.json for what it leaves out. Methods
// other than modelopt and bitsandbytes (NF4), and members of the wrong type, are InputErrors.
StoredQuantization read_quantization(const Checkpoint& checkpoint);

}  // namespace halftone
