#pragma once

#include <map>
#include <string>
#include <vector>

#include "search/score_pass.h"

namespace halftone {

enum class ScoreMethod { kGradient, kKl, kFisher };
const char* name_of(ScoreMethod method);

struct ScoreOptions {
  ScoreMethod method = ScoreMethod::kGradient;
  LossLabels labels = LossLabels::kData;  // kGradient
  int64_t batches = 0;                    // of the calibration set, its first: the score set
  // Where the calibration store (calibration.h5), the scores (search.h5) and what a resumed run
  // needs are kept.
  fs::path workspace;
  // What makes two searches the same, by name, and what the calibration store says of itself.
  Json identity = Json::object();
  std::map<std::string, std::string> texts;
  bool resume = true;
  bool overwrite = false;
  double overhead = 0.04;  // JournalOptions
  DType compute_dtype = DType::kBF16;
  Numerics numerics = Numerics::kCpu;
  bool count_padding = false;
  double observed_experts = 0.0;
  int64_t expert_floor = 1;
  int64_t seed = 0;
  int64_t stage_limit = INT64_MAX;
  MemoryBudget budget;
  bool show_progress = true;
  HeldWeights* held = nullptr;
};

// Calibrates every candidate in one forward pass that keeps the stages' inputs, then scores them.
// What an earlier search with the same identity left in the workspace is taken instead; an
// interrupted one goes on where it was. The calibration store is complete afterwards. Collective.
ScoreResult find_scores(const SourceLayout& source, Model& model, const SearchSpace& space,
                        const std::vector<CandidatePlan>& plans, const std::vector<Batch>& batches,
                        const ScoreOptions& options, const Cluster& cluster);

}  // namespace halftone
