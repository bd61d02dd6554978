#pragma once

#include "app/options.h"
#include "engine/verify.h"

namespace halftone {

// --engine
void add_engine_option(Options& options);

struct VerifyResult {
  VerifyReport report;
  Json perplexity;  // null: not measured
  int64_t tensors = 0;
  int64_t bytes = 0;
};

// What `verify` prints: lines, or with --json one object.
void print_report(const Options& options, const fs::path& folder, const VerifyResult& result);

}  // namespace halftone
