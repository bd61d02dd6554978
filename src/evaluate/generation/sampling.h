#pragma once

#include <cstdint>
#include <span>

namespace halftone {

// How the next token is drawn from the logits. Temperature 0: the most probable one, the lowest id
// of equal ones. Otherwise of the `top_k` most probable ones (0: of all), and of those of the
// fewest whose probabilities reach `top_p`.
struct Sampling {
  double temperature = 0.0;
  double top_p = 1.0;
  int64_t top_k = 0;
  uint64_t seed = 0;
};

int64_t most_probable(std::span<const float> logits_V);

// The token of step `step` of the sequence `sequence` (any number that is its own in the run): the
// draw depends on these, the seed and the logits alone. InputError where logits are not finite.
int64_t sample(std::span<const float> logits_V, const Sampling& sampling, uint64_t sequence,
               uint64_t step);

}  // namespace halftone
