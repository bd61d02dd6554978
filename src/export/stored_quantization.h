#pragma once

#include <map>
#include <string>

#include "core/json.h"
#include "formats/linear_format.h"
#include "io/checkpoint.h"

namespace halftone {

struct LibraryTarget;

// What a checkpoint's configuration says of its quantization.
struct StoredQuantization {
  struct Entry {
    std::string algo;
    int64_t group_size = 0;
    bool weight_only = false;  // its config group names weights alone
    LinearFormat format = {};  // another library's: what its configuration says in full
  };
  Entry uniform;                        // empty algo: none or per layer
  std::map<std::string, Entry> layers;  // by module
  Json kv_scheme;
  Json excluded = Json::array();  // modules that are not quantized, as ExcludeList reads it
  const LibraryTarget* library = nullptr;  // null: a unified checkpoint

  // The suffix of a tensor that quantized linears have and others do not.
  const char* scales() const;
};

// Reads config.json's quantization_config, and hf_quant_config.json for what it leaves out. Methods
// other than modelopt, bitsandbytes (NF4) and those of library_target.h, and members of the wrong
// type, are InputErrors.
StoredQuantization read_quantization(const Checkpoint& checkpoint);
// Whether quant_method is that of a library of library_target.h.
bool is_library_layout(const Checkpoint& checkpoint);

}  // namespace halftone
