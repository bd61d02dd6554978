#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "export/finding.h"
#include "kernels/dtype.h"

namespace halftone {

// How stored numbers are to be taken.
enum class ScaleKind : uint8_t {
  kFloat,  // F32, F16 or BF16
  kE4M3,   // bytes
  kE8M0,   // bytes; 0 stands for 2^-127
};

// The first thing that is wrong with scales, which must be finite and more than zero:
// "nan-scale", "infinite-scale", "negative-scale" or "zero-scale". nullopt: nothing.
std::optional<Finding> check_scales(const at::Tensor& scales, ScaleKind kind);
// "not-finite": a NaN or an infinity in a floating tensor, or a NaN among the codes of E4M3.
std::optional<Finding> check_finite(const at::Tensor& values, DType stored);

}  // namespace halftone
