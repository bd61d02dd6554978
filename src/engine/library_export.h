#pragma once

#include <set>
#include <string>
#include <vector>

#include "engine/cluster.h"
#include "export/hf_layout.h"
#include "export/library_target.h"
#include "export/quant_config.h"

namespace halftone {

// A unified checkpoint on disk on its way into the layout of another library: the same codes and
// scales, nothing is quantized again.
class LibraryExport {
 public:
  // Reads headers alone. What the layout cannot carry is a UsageError, a checkpoint that is not
  // unified an InputError. All arguments must outlive it.
  LibraryExport(const LibraryTarget& library, const Checkpoint& unified, const Model& model,
                int64_t max_shard_bytes);

  int64_t bytes() const { return layout_.total_bytes; }

  // Writes the checkpoint into a folder that is not published yet, makes it durable and opens it
  // again (VerificationError). Memory: a few tensors of a rank. Collective.
  void write(const fs::path& folder, const Cluster& cluster) const;

 private:
  // Tensors of the output that are made together.
  struct Unit {
    enum class Kind : uint8_t { kCopy, kLinear, kCache };
    Kind kind = Kind::kCopy;
    size_t stage = 0;
    size_t index = 0;  // of the stage's linear or attention
    std::vector<TensorSpec> tensors;
    int64_t bytes = 0;  // read
  };

  void plan();
  void plan_stage(size_t stage, std::set<std::string>& seen);
  void add_copy(const std::string& name, std::set<std::string>& seen);
  PackedLinear convert(const Unit& unit, ThreadPool& pool) const;
  PackedLinear convert_cache(const Unit& unit) const;
  void verify(const fs::path& folder, const Cluster& cluster) const;

  const LibraryTarget& library_;
  const Checkpoint& unified_;
  const Model& model_;
  DType dtype_;
  std::vector<StagePlan> stages_;  // as the unified checkpoint has them
  std::vector<StagePlan> stored_;  // as the output has them
  std::vector<TensorSpec> extra_;
  std::vector<Unit> units_;
  HfLayout layout_;
  QuantConfig config_;
};

// The formats of a unified checkpoint as the library stores them.
std::vector<StagePlan> in_library(const LibraryTarget& library, std::vector<StagePlan> stages);

}  // namespace halftone
