#pragma once

#include <map>
#include <string>

#include "engine/stage_loader.h"

namespace halftone {

// The amax of every floating tensor that is loaded, by name: as stored, or decoded where the source
// holds low bits; each rank scans 1/N of it. A NaN or an infinity is an InputError naming the
// tensor and the file. Collective.
std::map<std::string, float> amax_of_stage(const LoadedStage& stage, const Checkpoint& checkpoint,
                                           const Cluster& cluster);

}  // namespace halftone
