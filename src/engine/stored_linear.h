#pragma once

#include "engine/stage_loader.h"
#include "formats/codec.h"
#include "formats/linear_format.h"

namespace halftone {

// The stored tensors of one quantized linear of a unified checkpoint, read as they are.
PackedLinear read_packed(const Checkpoint& checkpoint, const LinearSite& linear,
                         const LinearFormat& format, int64_t experts, DType model_dtype,
                         ThreadPool& pool);

}  // namespace halftone
