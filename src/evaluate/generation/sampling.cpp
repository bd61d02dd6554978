#include "evaluate/generation/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/error.h"

namespace halftone {
namespace {

// SplitMix64 (Steele, Lea and Flood 2014).
uint64_t mixed(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// In [0, 1), of 53 bits.
double uniform(uint64_t seed, uint64_t sequence, uint64_t step) {
  const uint64_t bits = mixed(mixed(mixed(seed) ^ sequence) ^ step);
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

struct Candidate {
  int64_t id;
  double weight;  // probability, up to a common factor
};

// By falling probability, ids of equal ones ascending; only as many as can be drawn.
std::vector<Candidate> candidates_of(std::span<const float> logits_V, const Sampling& sampling,
                                     float greatest) {
  std::vector<int64_t> ids(logits_V.size());
  std::iota(ids.begin(), ids.end(), int64_t{0});
  const auto before = [&](int64_t a, int64_t b) {
    const float x = logits_V[static_cast<size_t>(a)], y = logits_V[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  if (sampling.top_k > 0 && sampling.top_k < std::ssize(ids)) {
    std::nth_element(ids.begin(), ids.begin() + sampling.top_k, ids.end(), before);
    ids.resize(static_cast<size_t>(sampling.top_k));
  }
  std::sort(ids.begin(), ids.end(), before);
  std::vector<Candidate> candidates;
  for (int64_t id : ids) {
    const double logit = double{logits_V[static_cast<size_t>(id)]} - double{greatest};
    candidates.push_back({id, std::exp(logit / sampling.temperature)});
  }
  return candidates;
}

double total_of(const std::vector<Candidate>& candidates) {
  double total = 0.0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  return total;
}

void keep_top_p(std::vector<Candidate>& candidates, double top_p) {
  const double wanted = top_p * total_of(candidates);
  double sum = 0.0;
  size_t count = 0;
  while (count < candidates.size() && (count == 0 || sum < wanted)) {
    sum += candidates[count++].weight;
  }
  candidates.resize(count);
}

}  // namespace

int64_t most_probable(std::span<const float> logits_V) {
  return std::max_element(logits_V.begin(), logits_V.end()) - logits_V.begin();
}

int64_t sample(std::span<const float> logits_V, const Sampling& sampling, uint64_t sequence,
               uint64_t step) {
  const int64_t best = most_probable(logits_V);
  const float greatest = logits_V[static_cast<size_t>(best)];
  if (!std::isfinite(greatest)) {
    throw InputError(
        "the model's logits are NaN or infinite: it overflows in this --dtype, or its weights or "
        "scales are damaged");
  }
  if (sampling.temperature <= 0.0) return best;
  std::vector<Candidate> candidates = candidates_of(logits_V, sampling, greatest);
  if (sampling.top_p < 1.0) keep_top_p(candidates, sampling.top_p);
  double left = uniform(sampling.seed, sequence, step) * total_of(candidates);
  for (const Candidate& candidate : candidates) {
    left -= candidate.weight;
    if (left < 0.0) return candidate.id;
  }
  return candidates.front().id;
}

}  // namespace halftone
