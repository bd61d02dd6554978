#pragma once

#include <cstdint>
#include <vector>

#include "dist/communicator.h"
#include "model/stage.h"

namespace halftone {

// What calibration has seen of a stage. amax values are exact maxima in the compute dtype; kAbsent
// of dist/reductions.h where nothing was seen.
struct StageStatistics {
  explicit StageStatistics(const StageSpec& stage);

  // The maxima of both, the counts added.
  void merge(const StageStatistics& other);
  // Over all ranks.
  void reduce(Communicator& communicator);

  std::vector<float> input_amax;  // per linear
  std::vector<float> key_amax;    // per attention
  std::vector<float> value_amax;
  std::vector<int64_t> tokens;  // per linear: rows of its input that were observed
};

}  // namespace halftone
