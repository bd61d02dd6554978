#include "engine/stored_linear.h"

#include <ATen/ATen.h>

#include "engine/compressed_stage.h"
#include "export/hf_names.h"

namespace halftone {

PackedLinear read_packed(const Checkpoint& checkpoint, const LinearSite& linear,
                         const LinearFormat& format, int64_t experts, DType model_dtype,
                         ThreadPool& pool) {
  std::vector<StoredTensor> tensors;
  for (const HfPart& part : hf_parts(linear, format, experts, model_dtype)) {
    tensors.push_back(stored_part(checkpoint, linear, part));
  }
  const LoadedStage loaded(std::move(tensors), checkpoint, at::kCPU, pool);
  return stored_linear(loaded, linear, format, model_dtype);
}

}  // namespace halftone
