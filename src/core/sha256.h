#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/files.h"

namespace halftone {

// SHA-256 as 64 lower-case hexadecimal digits.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void update(const void* data, size_t bytes);
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256_of_bytes(const void* data, size_t bytes);
std::string sha256_of_file(const fs::path& path);
// Over the names and SHA-256 sums of the folder's files in name order, summary.json left out
// (design.md, section 4).
std::string digest_of_directory(const fs::path& directory);

}  // namespace halftone
