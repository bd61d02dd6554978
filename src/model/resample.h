#pragma once

#include <cstdint>
#include <vector>

namespace halftone {

// The sound at another sample rate, at most `limit` samples of it: band-limited interpolation by a
// sinc under a Hann window (Smith 1984), cut off at 0.99 of the lower rate's half, with a gain of 1
// at frequency 0. Silence before and behind. Rates are positive.
std::vector<float> resample(const std::vector<float>& samples, int64_t from_rate, int64_t to_rate,
                            int64_t limit);

}  // namespace halftone
