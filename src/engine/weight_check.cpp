#include "engine/weight_check.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "dist/reductions.h"
#include "formats/tensor_bridge.h"
#include "kernels/amax.h"

namespace halftone {
namespace {

bool is_scanned(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

// The bytes of an entry that this rank scans.
at::Tensor my_piece(const LoadedStage& stage, const StageImage::Entry& entry,
                    const Communicator& ranks) {
  const int64_t part = stage.image().part_bytes(ranks.size());
  const int64_t mine = part * ranks.rank();
  const int64_t begin = std::max(entry.begin, mine);
  const int64_t end = std::min(entry.begin + entry.bytes, mine + part);
  if (begin >= end) return {};
  return stage.bytes().slice(0, begin, end).view(scalar_type_of(entry.dtype));
}

}  // namespace

std::map<std::string, float> amax_of_stage(const LoadedStage& stage, const Checkpoint& checkpoint,
                                           const Cluster& cluster) {
  const std::vector<StoredTensor>& tensors = stage.tensors();
  std::vector<float> amax(tensors.size(), MaxBucket::kAbsent);
  std::vector<float> damaged(tensors.size(), 0.0f);
  size_t entry = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const StoredTensor& stored = tensors[i];
    at::Tensor mine;
    if (stored.codec != nullptr) {
      const auto ranks = static_cast<size_t>(cluster.tensors.size());
      const bool is_mine = i % ranks == static_cast<size_t>(cluster.tensors.rank());
      if (is_mine) mine = stage.tensor(stored.name);
    } else if (is_scanned(stored.dtype)) {
      mine = my_piece(stage, stage.image().entries[entry], cluster.tensors);
    }
    entry += stored.pieces.size();
    if (!mine.defined()) continue;
    const Amax seen = amax_of_tensor(context_of(mine, &cluster.pool), matrix_of(mine));
    amax[i] = seen.value;
    if (!seen.finite) damaged[i] = 1.0f;
  }
  MaxBucket bucket;
  bucket.add(amax);
  bucket.add(damaged);
  bucket.reduce(cluster.control);
  // Every rank finds the same tensor, whichever of them scanned it.
  const auto bad = std::find(damaged.begin(), damaged.end(), 1.0f);
  if (bad != damaged.end()) {
    const StoredTensor& stored = tensors[static_cast<size_t>(bad - damaged.begin())];
    const std::string& file = checkpoint.file_of(stored.pieces.front().tensor).string();
    throw InputError(concat("tensor '", stored.name, "' in '", file,
                            "' holds NaN or infinity: the checkpoint is damaged"));
  }
  std::map<std::string, float> by_name;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (is_scanned(tensors[i].dtype)) by_name[tensors[i].name] = std::max(amax[i], 0.0f);
  }
  return by_name;
}

}  // namespace halftone
