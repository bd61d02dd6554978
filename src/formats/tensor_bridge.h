#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/context.h"
#include "kernels/dtype.h"

namespace halftone {

// LibTorch's tensors as the kernels' views. Tensors on a GPU are used on its default stream, where
// LibTorch queues its own work.
Context context_of(const at::Tensor& tensor, ThreadPool* pool);
// dtype must be F32, F16 or BF16; the tensor must be contiguous. All leading dimensions become
// rows.
MatrixView matrix_of(const at::Tensor& tensor);

DType dtype_of(at::ScalarType type);
at::ScalarType scalar_type_of(DType dtype);

// An fp32 scalar [] on the CPU.
at::Tensor scalar_tensor(float value);

// `export_amax` (formats-and-hf-export.md, 2.2): zero and NaN become `bound`, then clamped to the
// normal finite range of the amax' dtype.
float sanitize_amax(float amax, float bound, DType dtype);

}  // namespace halftone
