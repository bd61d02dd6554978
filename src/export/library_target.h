#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "export/quantized_modules.h"
#include "export/stored_quantization.h"

namespace halftone {

// A layout of Hugging Face checkpoints that another library defines: the same codes and scales as
// in the unified one, in other tensors and under another quantization_config. One file each, and
// the list of them is in library_target.cpp.
struct LibraryTarget {
  const char* name;    // of --target
  const char* method;  // quant_method
  // The suffix of a tensor that every quantized linear has and no other.
  const char* scales;
  bool one_format;  // for all quantized linears
  // What keeps a linear out of it, as the rest of a sentence ("is nf4, which ..."); empty: nothing.
  std::string (*problem)(const LinearSite& linear, const LinearFormat& format);
  bool fp8_cache;  // whether the configuration has a place for an FP8 cache
  // How a linear is stored; `scales`: the dtype of the scales of weights that are not bytes.
  std::shared_ptr<const StoredForm> (*form)(DType scales);
  DType written_scales;
  // quantization_config. The formats of `stages` are what problem() lets through.
  Json (*config)(const QuantizedModules& modules, const std::vector<StagePlan>& stages);
  // The configuration read back; what it holds beyond our formats is an InputError naming `source`.
  StoredQuantization (*read)(const Json& config, const std::string& source);
};

// Null: no library's.
const LibraryTarget* library_target(const std::string& name);
const LibraryTarget* library_of_method(const std::string& quant_method);
std::vector<std::string> library_target_names();
std::vector<std::string> library_methods();

// A linear's format in that layout.
LinearFormat in_library(const LibraryTarget& library, LinearFormat format, DType scales);

// The format of a linear of a checkpoint in a library's layout, as its configuration has it; which
// dtype its scales have says the checkpoint.
LinearFormat format_in_library(const StoredQuantization& stored,
                               const StoredQuantization::Entry& entry, const LinearSite& linear,
                               const Checkpoint& checkpoint);

// Refuses (UsageError) what the layout cannot carry.
void check_library(const LibraryTarget& library, const Model& model,
                   const std::vector<StagePlan>& stages);

}  // namespace halftone
