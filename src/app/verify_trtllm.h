#pragma once

#include <functional>

#include "app/run_setup.h"
#include "app/verify_report.h"

namespace halftone {

// A TensorRT-LLM checkpoint: its rank files as they are, then the unified checkpoint that they
// make, which `contents` looks at as at one on disk. Collective.
using VerifyContents = std::function<void(const Checkpoint& unified, VerifyResult& result)>;
VerifyResult verify_trtllm(const Options& options, const fs::path& folder, const RunSetup& setup,
                           const VerifyContents& contents);

}  // namespace halftone
