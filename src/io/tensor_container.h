#pragma once

#include <functional>
#include <map>
#include <string>

#include "core/files.h"
#include "io/safetensors.h"

namespace halftone {

// One part of a checkpoint that tensors are read from: a safetensors file, or a folder of another
// kind. Immutable but for bypass_cache(); any number of threads may read.
class TensorContainer {
 public:
  // Name, size in bytes and header of a file.
  using Identify = std::function<void(const std::string&, int64_t, const std::string&)>;

  virtual ~TensorContainer() = default;

  // In the order of their names.
  virtual const std::map<std::string, TensorInfo>& tensors() const = 0;
  // The file that holds a tensor, or its beginning.
  virtual const fs::path& file_of(const TensorInfo& tensor) const = 0;
  // Bytes [begin, begin + bytes) of a tensor.
  virtual void read(const TensorInfo& tensor, int64_t begin, int64_t bytes, void* data) const = 0;
  // File::bypass_cache().
  virtual void bypass_cache() = 0;
  // Calls with what tells this content from another without reading weights.
  virtual void identify(const Identify& add) const = 0;
  // When one of its files was changed last, in nanoseconds.
  virtual int64_t change_time() const = 0;
};

}  // namespace halftone
