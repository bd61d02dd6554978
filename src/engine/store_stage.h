#pragma once

#include "calibrate/algorithm.h"
#include "io/statistics_store.h"

namespace halftone {

// A stage's statistics in the calibration store: per linear "input_amax" [], "channel_amax" [in],
// "mean_abs" [in], "tokens" [2] (counts in units of 2^24 and 1); per attention "key_amax" [],
// "key_rotated_amax" [], "key_largest", "key_smallest", "key_mean" [heads * dim] and the same of
// values. What was not observed is left out.
void save_statistics(StatisticsStore& store, const StageSpec& stage,
                     const StageStatistics& statistics);
// What is missing stays as unobserved; a dataset of another shape is an InputError.
StageStatistics load_statistics(const StatisticsStore& store, const StageSpec& stage);

// What the searches of a target found: datasets "FORMAT:NAME". Choices that are not F32 (whole
// weights) are not kept.
void save_choices(StatisticsStore& store, const StageSpec& stage, const std::string& format,
                  const Choices& choices);
Choices load_choices(const StatisticsStore& store, const StageSpec& stage,
                     const std::string& format);
// The same where each linear's were made for a format of its own.
Choices load_choices(const StatisticsStore& store, const StageSpec& stage,
                     const std::vector<std::string>& formats);

// InputError naming what the store lacks for this plan of a stage.
void check_statistics(const StageSpec& stage, const StagePlan& plan, const Recipe& recipe,
                      const StageStatistics& statistics, const Choices& choices);

}  // namespace halftone
