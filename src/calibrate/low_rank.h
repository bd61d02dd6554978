#pragma once

#include "calibrate/algorithm.h"

namespace halftone {

// SVDQuant's branches: for each linear with a low rank, or fused group of them, the best
// approximation of that rank of the smoothed weights; members share A and have row slices of B
// (calibration.md, 5.8). Groups are dealt to ranks by cost and the factors broadcast. Collective.
void add_low_rank_branches(const StageRun& run, StageSolution& solution);

// The factors of the best approximation of v [n, k] of this rank: b [n, rank], a [rank, k] with
// b a = U_r S_r V_r^T, F64. Zero padded where v's own rank is smaller. Signs are fixed: the largest
// component of each column of b is positive.
std::pair<at::Tensor, at::Tensor> low_rank_factors(const at::Tensor& v_NK, int64_t rank);

}  // namespace halftone
