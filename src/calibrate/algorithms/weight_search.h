#pragma once

#include <vector>

#include "calibrate/algorithm.h"

namespace halftone {

// The 126 positive finite E4M3 values over 448: every block scale that NVFP4 can store, relative to
// the largest (calibration.md, 5.1).
std::vector<float> e4m3_sweep();

}  // namespace halftone
