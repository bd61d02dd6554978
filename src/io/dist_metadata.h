#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/files.h"
#include "kernels/dtype.h"

namespace halftone {

// A block of a tensor and the bytes of a file that hold it as a torch.save archive.
struct DistChunk {
  std::vector<int64_t> offsets;
  std::vector<int64_t> sizes;
  std::string file;  // a plain name in the checkpoint's folder
  int64_t begin = 0;
  int64_t length = 0;
};

struct DistTensor {
  std::optional<DType> dtype;  // nullopt: one that safetensors lacks
  std::string dtype_name;      // PyTorch's
  std::vector<int64_t> shape;
  std::vector<DistChunk> chunks;
};

// What `.metadata` of a checkpoint of torch.distributed.checkpoint says. Opening reads this file
// alone.
struct DistMetadata {
  std::map<std::string, DistTensor> tensors;  // the wanted ones
  std::vector<std::string> objects;           // wanted names of other things than tensors, sorted
  std::set<std::string> files;                // that any entry lies in
};

// `wanted`: whether the entries of a name are read at all. A pickle with anything but the classes
// of this metadata, a chunk that is stored nowhere or twice, a file's name that leads out of the
// folder, items that went through a transformation: InputErrors.
DistMetadata read_dist_metadata(const fs::path& path,
                                const std::function<bool(const std::string&)>& wanted);

}  // namespace halftone
