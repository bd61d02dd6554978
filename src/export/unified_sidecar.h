#pragma once

#include <map>
#include <string>
#include <vector>

#include "dist/file_manifest.h"
#include "io/checkpoint.h"

namespace halftone {

// A folder beside the rank files of another layout that holds what the unified checkpoint had and
// those do not: its JSON and tokenizer files, the headers of its weight files, and the tensors that
// the layout does not keep as they were (rest.safetensors). With it the unified checkpoint can be
// made again byte for byte.
inline constexpr const char* kUnifiedFolder = "unified";
inline constexpr const char* kRestFile = "rest.safetensors";

// Everything but the rest file, fsynced. The folder exists. `files`: those of the other layout,
// whose lengths and checksums it keeps.
void keep_unified(const Checkpoint& unified, const std::vector<FileRecord>& files,
                  const fs::path& folder);
// SHA-256 of those files, by their names. None in a folder that has no such list; a damaged one is
// an InputError.
std::map<std::string, std::string> kept_sums(const fs::path& folder);

// Copies the files back that are no weight files.
void restore_plain_files(const fs::path& folder, const fs::path& to);

// Those, and weight files with their headers and their full size but nothing behind, in a temporary
// folder of this rank: what a Checkpoint needs to say how it is made up. A damaged folder is an
// InputError.
class UnifiedSkeleton {
 public:
  explicit UnifiedSkeleton(const fs::path& sidecar);
  ~UnifiedSkeleton();
  UnifiedSkeleton(const UnifiedSkeleton&) = delete;
  UnifiedSkeleton& operator=(const UnifiedSkeleton&) = delete;

  const fs::path& folder() const { return folder_; }

 private:
  fs::path folder_;
};

}  // namespace halftone
