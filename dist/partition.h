#pragma once

#include <cstdint>
#include <vector>

namespace halftone {

// Batch b belongs to rank b mod ranks: the batches of `rank` out of `batches`, in order.
std::vector<int64_t> batches_of_rank(int64_t batches, int rank, int ranks);

// Deals work to `parts` so that the largest load is small: the dearest piece first, to the part
// with the least load, the lowest index on ties. Returns the part of each piece. Depends only on
// the arguments.
std::vector<int> deal_by_cost(const std::vector<int64_t>& costs, int parts);

}  // namespace halftone
