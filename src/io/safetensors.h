#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/files.h"
#include "kernels/dtype.h"

namespace halftone {

// What a header says of one tensor. `offset` counts from the start of the file.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  int64_t offset = 0;
  int64_t bytes = 0;

  int64_t count() const { return bytes / size_of(dtype); }
};

std::string shape_text(const std::vector<int64_t>& shape);  // "[128, 64]"

// An open safetensors file. The header is treated as hostile: length, nesting, duplicate names,
// unknown types, overflowing shapes, ranges that overlap, leave gaps or pass the end of the file
// are InputErrors that name the file and the tensor. Tensor bytes are read by pread, never all at
// once.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const fs::path& path);

  const fs::path& path() const { return file_.path(); }
  // In the order of their names.
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // Bytes [begin, begin + bytes) of a tensor.
  void read(const TensorInfo& tensor, int64_t begin, int64_t bytes, void* data) const;
  std::vector<char> read_all(const TensorInfo& tensor) const;
  // File::bypass_cache().
  void bypass_cache() { file_.bypass_cache(); }

 private:
  File file_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_;
};

// A tensor to be written.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  int64_t bytes() const;
};

// The layout of a safetensors file before any data exists: `header` is its first bytes (the length
// word included, {"__metadata__":{"format":"pt"}}, padded with spaces to a multiple of 8), and the
// tensors' places follow formats-and-hf-export.md, 5.1: F64, I64, F32, I32, BF16, F16, I16,
// F8_E4M3, F8_E5M2, U8, I8, BOOL, then by name, without gaps. Without `metadata` the header names
// tensors only.
struct SafetensorsLayout {
  std::string header;
  std::map<std::string, TensorInfo> tensors;
  int64_t file_bytes = 0;
};
SafetensorsLayout plan_safetensors(const std::vector<TensorSpec>& specs, bool metadata = true);

}  // namespace halftone
