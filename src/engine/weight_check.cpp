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

}  // namespace

std::map<std::string, float> amax_of_stage(const LoadedStage& stage, const Checkpoint& checkpoint,
                                           const Cluster& cluster) {
  const auto& entries = stage.image().entries;
  const int64_t part = stage.image().part_bytes(cluster.tensors.size());
  const int64_t mine_begin = part * cluster.tensors.rank();
  std::vector<float> amax(entries.size(), MaxBucket::kAbsent);
  std::vector<float> damaged(entries.size(), 0.0f);
  for (size_t i = 0; i < entries.size(); ++i) {
    const StageImage::Entry& entry = entries[i];
    const int64_t begin = std::max(entry.begin, mine_begin);
    const int64_t end = std::min(entry.begin + entry.bytes, mine_begin + part);
    if (!is_scanned(entry.dtype) || begin >= end) continue;
    const at::Tensor piece = stage.bytes().slice(0, begin, end).view(scalar_type_of(entry.dtype));
    const Amax seen = amax_of_tensor(context_of(piece, &cluster.pool), matrix_of(piece));
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
    const std::string& name = entries[static_cast<size_t>(bad - damaged.begin())].name;
    throw InputError(concat("tensor '", name, "' in '", checkpoint.file_of(name).string(),
                            "' holds NaN or infinity: the checkpoint is damaged"));
  }
  std::map<std::string, float> by_name;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (is_scanned(entries[i].dtype)) by_name[entries[i].name] = std::max(amax[i], 0.0f);
  }
  return by_name;
}

}  // namespace halftone
