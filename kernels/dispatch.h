#pragma once

#include "kernels/check.h"
#include "kernels/context.h"

namespace halftone {

#if defined(HALFTONE_HAS_CUDA)
inline constexpr bool kHasCuda = true;
#else
inline constexpr bool kHasCuda = false;
#endif

inline void check_cpu(const Context& context) {
  check(context.device == Device::kCpu, "this build of halftone has no CUDA");
}

inline void check_matrix(const MatrixView& matrix) {
  check(matrix.dtype == DType::kF32 || matrix.dtype == DType::kF16 || matrix.dtype == DType::kBF16,
        "a kernel takes F32, F16 or BF16");
  check(matrix.rows >= 0 && matrix.cols >= 0, "a matrix has no negative size");
  check(matrix.data != nullptr || matrix.count() == 0, "a matrix without data");
}

}  // namespace halftone
