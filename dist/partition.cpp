#include "dist/partition.h"

#include <algorithm>
#include <numeric>

#include "kernels/check.h"

namespace halftone {

std::vector<int64_t> batches_of_rank(int64_t batches, int rank, int ranks) {
  check(rank >= 0 && rank < ranks, "rank out of range");
  std::vector<int64_t> mine;
  for (int64_t batch = rank; batch < batches; batch += ranks) mine.push_back(batch);
  return mine;
}

std::vector<int> deal_by_cost(const std::vector<int64_t>& costs, int parts) {
  check(parts > 0, "there must be a part to deal to");
  std::vector<size_t> dearest_first(costs.size());
  std::iota(dearest_first.begin(), dearest_first.end(), size_t{0});
  std::stable_sort(dearest_first.begin(), dearest_first.end(),
                   [&](size_t left, size_t right) { return costs[left] > costs[right]; });

  std::vector<int64_t> loads(static_cast<size_t>(parts), 0);
  std::vector<int> part_of(costs.size());
  for (const size_t piece : dearest_first) {
    const auto lightest = std::min_element(loads.begin(), loads.end());
    *lightest += costs[piece];
    part_of[piece] = static_cast<int>(lightest - loads.begin());
  }
  return part_of;
}

}  // namespace halftone
