#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

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
inline constexpr size_t kSha256HexLength = 64;

// The digest of a checkpoint folder (design.md, section 4): SHA-256 over its files' names and
// SHA-256 sums in name order, summary.json left out.
std::vector<std::string> files_of_directory(const fs::path& directory);
std::string digest_of_files(const std::vector<std::string>& names,
                            const std::vector<std::string>& sums);
// `known`: sums that are not taken again, of files that the folder holds.
std::string digest_of_directory(const fs::path& directory,
                                const std::map<std::string, std::string>& known = {});

}  // namespace halftone
