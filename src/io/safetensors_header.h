#pragma once

#include <map>
#include <string>
#include <string_view>

#include "core/files.h"
#include "io/safetensors.h"

namespace halftone {

// What the safetensors library accepts at most.
inline constexpr int64_t kMaxHeaderBytes = 100'000'000;
// The little-endian length in front of the header.
inline constexpr int64_t kLengthBytes = 8;

struct SafetensorsHeader {
  std::map<std::string, TensorInfo> tensors;
  std::map<std::string, std::string> metadata;
};

// The header's JSON text. Its length is checked before anything is allocated.
std::string read_safetensors_header(const File& file);
// The same with its length in front: the file's first bytes.
std::string framed_safetensors_header(const File& file);

// How long the file is by its own header, so that a truncated one can be told from one that is
// damaged; 0 where the header itself cannot be read.
int64_t announced_bytes(const File& file);

// Checks everything that safetensors.h promises. `file_bytes` is the size of the whole file.
SafetensorsHeader parse_safetensors_header(std::string_view text, int64_t file_bytes,
                                           const fs::path& path);

}  // namespace halftone
