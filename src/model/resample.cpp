#include "model/resample.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "kernels/check.h"

namespace halftone {
namespace {

constexpr double kRolloff = 0.99;
constexpr double kZeroCrossings = 32.0;  // of the sinc, on each side

// Weights of the input samples first, first + 1, ... for an output at `offset` (0 to 1) behind the
// input sample 0.
struct Taps {
  int64_t first = 0;
  std::vector<double> weights;
};

Taps make_taps(double offset, double cutoff) {
  const double reach = kZeroCrossings / cutoff;
  Taps taps;
  taps.first = static_cast<int64_t>(std::ceil(offset - reach));
  const auto last = static_cast<int64_t>(std::floor(offset + reach));
  double sum = 0.0;
  for (int64_t k = taps.first; k <= last; ++k) {
    const double distance = offset - static_cast<double>(k);
    const double angle = std::numbers::pi * cutoff * distance;
    const double sinc = angle == 0.0 ? 1.0 : std::sin(angle) / angle;
    const double window = std::cos(std::numbers::pi / 2.0 * distance / reach);
    taps.weights.push_back(sinc * window * window);
    sum += taps.weights.back();
  }
  for (double& weight : taps.weights) weight /= sum;
  return taps;
}

}  // namespace

std::vector<float> resample(const std::vector<float>& samples, int64_t from_rate, int64_t to_rate,
                            int64_t limit) {
  check(from_rate > 0 && to_rate > 0 && limit >= 0, "rates are positive");
  const int64_t divisor = std::gcd(from_rate, to_rate);
  const int64_t step = from_rate / divisor;  // output n lies at n * step / phases
  const int64_t phases = to_rate / divisor;
  const int64_t count = std::ssize(samples);
  const int64_t outputs = std::min(limit, (count * phases + step - 1) / step);
  const double cutoff =
      kRolloff * std::min(1.0, static_cast<double>(phases) / static_cast<double>(step));
  std::vector<float> out(static_cast<size_t>(outputs));
  // Outputs whose distances to the inputs are the same share their taps.
  for (int64_t phase = 0; phase < std::min(phases, outputs); ++phase) {
    const double offset = static_cast<double>(phase * step % phases) / static_cast<double>(phases);
    const Taps taps = make_taps(offset, cutoff);
    for (int64_t n = phase; n < outputs; n += phases) {
      const int64_t begin = n * step / phases + taps.first;
      const int64_t from = std::max<int64_t>(0, -begin);
      const int64_t to = std::min(std::ssize(taps.weights), count - begin);
      double sum = 0.0;
      for (int64_t k = from; k < to; ++k) {
        sum += taps.weights[static_cast<size_t>(k)] * samples[static_cast<size_t>(begin + k)];
      }
      out[static_cast<size_t>(n)] = static_cast<float>(sum);
    }
  }
  return out;
}

}  // namespace halftone
