#pragma once

#include <cstdint>

namespace halftone {

// Element types of stored tensors; the names are those of safetensors headers.
enum class DType : uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool,
};

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
    case DType::kI16:
      return 2;
    case DType::kF8E4M3:
    case DType::kF8E5M2:
    case DType::kI8:
    case DType::kU8:
    case DType::kBool:
      return 1;
  }
  return 0;
}

// "F32", "BF16", ... as safetensors spells them.
const char* name_of(DType dtype);

constexpr bool is_floating(DType dtype) {
  return dtype <= DType::kF8E5M2;
}

}  // namespace halftone
