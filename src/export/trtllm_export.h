#pragma once

#include "dist/file_manifest.h"
#include "export/trtllm_form.h"
#include "io/checkpoint.h"

namespace halftone {

// What a unified checkpoint holds.
std::map<std::string, TensorSpec> tensors_of(const Checkpoint& unified);

void warn_of_dtype(const UnifiedForm& form);

// A TensorRT-LLM checkpoint is made in a folder that is not published yet, from a unified one;
// `form` is what that one was read as. First its folders, then the files of plan_trtllm() by
// reshard(), then everything else, config.json last. By one rank.
void make_trtllm_folders(const UnifiedForm& form, const fs::path& folder);
void complete_trtllm(const UnifiedForm& form, const Parallelism& parallel,
                     const Checkpoint& unified, const std::vector<FileRecord>& files,
                     const fs::path& folder);

// Whether a folder holds rank files instead of a Hugging Face checkpoint.
bool is_trtllm(const fs::path& folder);
// How many ranks it is made for; what is no possible number is an InputError.
Parallelism parallelism_of(const fs::path& folder);

}  // namespace halftone
