#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace halftone {

// T5's relative positions (Raffel et al. 2020): one learned bias a head for each bucket of
// distances.
struct RelativePositions {
  int64_t buckets = 32;
  int64_t max_distance = 128;  // everything from here on shares the last bucket
  bool bidirectional = true;   // keys behind the query have half of the buckets
};

// The bucket (int64) of each distance key - query, computed in fp32 as transformers does: the
// limits of the logarithmic buckets depend on it.
at::Tensor relative_buckets(const RelativePositions& positions, const at::Tensor& distances);
// table [buckets, heads] -> bias [1, heads, length, length] of queries and keys, on its device.
at::Tensor relative_bias(const RelativePositions& positions, const at::Tensor& table_NH,
                         int64_t length);

}  // namespace halftone
