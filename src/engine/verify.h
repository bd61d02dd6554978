#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/check_weights.h"
#include "export/engine_rules.h"

namespace halftone {

struct VerifyOptions {
  CheckDepth depth = CheckDepth::kWhole;
  std::vector<Engine> engines;
  int64_t tp = 1;  // of the engines
};

struct VerifyReport {
  Findings findings;
  std::map<std::string, std::optional<double>> sqnr_db;  // WeightCheck
  int64_t bytes_read = 0;
};

// Everything that can be said of a unified checkpoint without computing with it. `model`: of the
// source if there is one (null: not known). With CheckDepth::kScales the source's headers are
// compared, not its weights. Collective; the same on every rank.
VerifyReport verify_checkpoint(const Checkpoint& checkpoint, const Model& model,
                               const SourceLayout* source, const VerifyOptions& options,
                               const Cluster& cluster);

// VerificationError with the number of problems and the first of them, if there is one.
void require_no_problems(const Findings& findings, const std::string& what);

}  // namespace halftone
