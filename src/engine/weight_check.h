#pragma once

#include <map>
#include <string>

#include "engine/stage_loader.h"

namespace halftone {

// The amax of every floating tensor of a loaded stage, in its stored dtype; each rank scans 1/N of
// the bytes. A NaN or an infinity is an InputError naming the tensor and the file. Collective.
std::map<std::string, float> amax_of_stage(const LoadedStage& stage, const Checkpoint& checkpoint,
                                           const Cluster& cluster);

}  // namespace halftone
