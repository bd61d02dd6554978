#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/memory_budget.h"
#include "engine/run_journal.h"
#include "engine/stage_loader.h"
#include "model/source_layout.h"
#include "search/candidate_stage.h"
#include "search/head_loss.h"
#include "search/kept_inputs.h"
#include "search/search_space.h"

namespace halftone {

// What every way to score works with.
struct ScoreRun {
  const SourceLayout& source;
  Model& model;
  const SearchSpace& space;
  const std::vector<CandidatePlan>& plans;  // [candidate], but "none"
  // The score set: the first batches of the calibration set; the ranks' shares are the same.
  const std::vector<Batch>& batches;
  const StatisticsStore& store;  // of the calibration, complete
  const KeptInputs& inputs;
  SolveContext context;
  int64_t stage_limit = INT64_MAX;  // plan_loads
  bool count_padding = false;
  MemoryBudget budget;
  bool show_progress = true;
  HeldWeights* held = nullptr;  // StageLoader
};

// [group][i]: of the i-th candidate of the group; 0 for "none" and where there is no choice.
using Scores = std::vector<std::vector<double>>;
Scores no_scores(const SearchSpace& space);

struct ScoreResult {
  Scores scores;
  double loss = 0.0;  // mean of the batches' mean losses of a token
};

// Sums travel between ranks as pairs of floats (BatchOrderedSums), which hold 48 bits.
std::vector<float> as_pairs(const std::vector<double>& values);
std::vector<double> from_pairs(const std::vector<double>& halves);

// One backward pass, stage by stage from the last: each stage's inputs are read back, its outputs
// recomputed and its gradients passed on, so that memory depends on one stage. The same bits for
// any number of ranks. `journal` counts the stages from the head and goes on where an interrupted
// pass ended. Collective.
ScoreResult score_by_gradients(const ScoreRun& run, const LossOptions& loss, ScoreRule rule,
                               RunJournal& journal);
// The names of its steps, for the journal.
std::vector<std::string> gradient_steps(const Model& model, const SearchSpace& space);

// One forward pass for each candidate of each group, several at a time: the mean divergence of the
// predictions of a token from the unquantized model's. Collective.
ScoreResult score_by_divergence(const ScoreRun& run, RunJournal& journal);
std::vector<std::string> kl_steps(const ScoreRun& run);

}  // namespace halftone
