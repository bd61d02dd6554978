#pragma once

#include "io/checkpoint.h"

namespace halftone {

// A folder beside the rank files of another layout that holds what the unified checkpoint had and
// those do not: its JSON and tokenizer files, the headers of its weight files, and the tensors that
// the layout does not keep as they were (rest.safetensors). With it the unified checkpoint can be
// made again byte for byte.
inline constexpr const char* kUnifiedFolder = "unified";
inline constexpr const char* kRestFile = "rest.safetensors";

// Everything but the rest file, fsynced. The folder exists.
void keep_unified(const Checkpoint& unified, const fs::path& folder);

// Copies the files back that are no weight files.
void restore_plain_files(const fs::path& folder, const fs::path& to);

// Those, and weight files with their headers and their full size but nothing behind: what a
// Checkpoint needs to say how it is made up. A damaged folder is an InputError.
void make_skeleton(const fs::path& folder, const fs::path& to);

}  // namespace halftone
