#include "formats/tensor_bridge.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "kernels/check.h"

namespace halftone {

Context context_of(const at::Tensor& tensor, ThreadPool* pool) {
  return {tensor.is_cuda() ? Device::kCuda : Device::kCpu, pool, nullptr};
}

MatrixView matrix_of(const at::Tensor& tensor) {
  check(tensor.is_contiguous(), "kernels take contiguous tensors");
  const int64_t cols = tensor.dim() == 0 ? 1 : tensor.size(-1);
  return {tensor.const_data_ptr(), dtype_of(tensor.scalar_type()),
          cols == 0 ? 0 : tensor.numel() / cols, cols};
}

DType dtype_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return DType::kF32;
    case at::kHalf:
      return DType::kF16;
    case at::kBFloat16:
      return DType::kBF16;
    case at::kLong:
      return DType::kI64;
    default:
      break;
  }
  check(false, "weights and activations are F32, F16 or BF16, token ids I64");
  return DType::kF32;
}

at::ScalarType scalar_type_of(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return at::kDouble;
    case DType::kF32:
      return at::kFloat;
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kI64:
      return at::kLong;
    case DType::kI32:
      return at::kInt;
    case DType::kI16:
      return at::kShort;
    case DType::kI8:
      return at::kChar;
    case DType::kBool:
      return at::kBool;
    case DType::kF8E4M3:
    case DType::kF8E5M2:
    case DType::kU8:
      break;
  }
  return at::kByte;
}

at::Tensor scalar_tensor(float value) {
  return at::scalar_tensor(value, at::kFloat);
}

float sanitize_amax(float amax, float bound, DType dtype) {
  if (!(amax > 0.0f)) amax = bound;
  const bool half = dtype == DType::kF16;
  const float smallest = half ? std::ldexp(1.0f, -14) : std::ldexp(1.0f, -126);
  const float largest = half                    ? 65504.0f
                        : dtype == DType::kBF16 ? std::ldexp(255.0f, 120)
                                                : std::ldexp(16777215.0f, 104);
  return std::clamp(amax, smallest, largest);
}

}  // namespace halftone
