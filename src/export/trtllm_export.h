#pragma once

#include "dist/communicator.h"
#include "export/reshard_plan.h"
#include "export/trtllm_form.h"
#include "io/checkpoint.h"
#include "kernels/thread_pool.h"

namespace halftone {

// What a unified checkpoint holds.
std::map<std::string, TensorSpec> tensors_of(const Checkpoint& unified);

// A TensorRT-LLM checkpoint from config.json to rank files in an empty folder that is not published
// yet, from a unified checkpoint; `form` is what that one was read as, `plan` plan_trtllm() of it.
// config.json comes last. Collective.
void write_trtllm(const UnifiedForm& form, const ReshardPlan& plan, const Parallelism& parallel,
                  const Checkpoint& unified, const fs::path& folder, Communicator& ranks,
                  ThreadPool& pool);

// Whether a folder holds rank files instead of a Hugging Face checkpoint.
bool is_trtllm(const fs::path& folder);
// How many ranks it is made for; what is no possible number is an InputError.
Parallelism parallelism_of(const fs::path& folder);

}  // namespace halftone
