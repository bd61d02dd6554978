#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "calibrate/target_plan.h"
#include "model/source_layout.h"

namespace halftone {

// Where every tensor of a unified Hugging Face checkpoint lies, known before the first byte of it
// exists (formats-and-hf-export.md, 5.1).
struct HfLayout {
  struct OutputFile {
    std::string name;
    SafetensorsLayout layout;
  };
  std::vector<OutputFile> files;
  std::map<std::string, size_t> file_of;  // by tensor name
  int64_t total_bytes = 0;                // of the tensors
  int64_t total_elements = 0;             // a packed byte counts as one

  const TensorInfo& info(const std::string& name) const;
};

// A source tensor (its name on disk) that does not go into the output, and why.
struct DroppedTensor {
  std::string name;
  std::string reason;
};

// What becomes of each source tensor.
struct Accounting {
  std::vector<std::string> quantized;
  std::vector<std::string> copied;  // stages' and extra ones
  std::vector<std::string> extra;   // copied, but the model does not know them
  std::vector<DroppedTensor> dropped;
};

struct HfPlan {
  HfLayout layout;
  Accounting accounting;
};

// max_shard_bytes: a file holds at most this much unless one tensor alone is larger.
HfPlan plan_hf_export(const SourceLayout& source, const Model& model, const TargetPlan& target,
                      int64_t max_shard_bytes);

// Tensors in units that stay in one file each, in order, in as many files as the limit asks for. A
// name that comes twice is an InputError.
HfLayout lay_out(const std::vector<std::vector<TensorSpec>>& units, int64_t max_shard_bytes);

// Whether two tensors of a checkpoint hold the same.
bool same_bytes(const Checkpoint& source, const std::string& a, const std::string& b);

// The names of an attention's cache scales ("k_proj.k_scale"), scalars; `library`: as the other
// libraries have them ("k_scale"), of one element.
std::string key_scale_name(const std::string& attention, bool library = false);
std::string value_scale_name(const std::string& attention, bool library = false);
std::string key_bias_name(const std::string& attention);
std::string value_bias_name(const std::string& attention);
// Every stored tensor of an attention's cache, named in full (formats-and-hf-export.md, 3.2).
std::vector<TensorSpec> cache_tensors(const AttentionSite& attention, KvFormat format,
                                      DType model_dtype, bool library = false);

}  // namespace halftone
