#pragma once

#include <string>
#include <vector>

#include "app/options.h"
#include "search/candidate_scores.h"
#include "search/search_space.h"

namespace halftone {

// --formats ... --cost-exclude: the search space and how it is scored.
void add_search_options(Options& options);
SearchOptions search_options(const Options& options);
// --bits, each once.
std::vector<double> bits_budgets(const Options& options);
ScoreMethod score_method(const Options& options);
// --loss, which is for gradients.
LossLabels loss_labels(const Options& options);
// How many of the batches are the score set: as many as --score-samples fill, one at least.
int64_t score_batches(const Options& options, const std::vector<Batch>& batches);
// The score set must have tokens to predict: an InputError otherwise.
void check_labels(const Options& options, const std::vector<Batch>& batches, int64_t count);

}  // namespace halftone
