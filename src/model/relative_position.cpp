#include "model/relative_position.h"

#include <ATen/ATen.h>

#include <cmath>

namespace halftone {

at::Tensor relative_buckets(const RelativePositions& positions, const at::Tensor& distances) {
  const int64_t buckets = positions.bidirectional ? positions.buckets / 2 : positions.buckets;
  const int64_t exact = buckets / 2;
  const at::Tensor far = positions.bidirectional ? distances.abs() : (-distances).clamp_min(0);
  const double log_range =
      std::log(static_cast<double>(positions.max_distance) / static_cast<double>(exact));
  // Distance 0 gives -inf, which no integer holds; it has an exact bucket anyway.
  const at::Tensor steps = at::log(far.clamp_min(1).to(at::kFloat) / double(exact)) / log_range *
                           double(buckets - exact);
  const at::Tensor logarithmic = (steps.to(at::kLong) + exact).clamp_max(buckets - 1);
  const at::Tensor bucket = at::where(far < exact, far, logarithmic);
  return positions.bidirectional ? bucket + (distances > 0).to(at::kLong) * buckets : bucket;
}

at::Tensor relative_bias(const RelativePositions& positions, const at::Tensor& table_NH,
                         int64_t length) {
  // On the CPU whatever the device: another logarithm may move a limit.
  const at::Tensor distances = at::arange(1 - length, length, at::kLong);
  const at::Tensor buckets = relative_buckets(positions, distances).to(table_NH.device());
  const at::Tensor bias_HN = table_NH.index_select(0, buckets).transpose(0, 1);
  // Window w of the distances holds the keys of query length - 1 - w.
  return bias_HN.unfold(1, length, 1).flip({1}).unsqueeze(0);
}

}  // namespace halftone
