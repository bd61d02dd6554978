#include "engine/sqnr.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace halftone {

Json sqnr_db(const at::Tensor& w_NK, const at::Tensor& q_NK, ThreadPool& pool) {
  constexpr int64_t kRows = 64;
  const int64_t rows = w_NK.size(0);
  const int64_t blocks = (rows + kRows - 1) / kRows;
  std::vector<double> signal(static_cast<size_t>(blocks));
  std::vector<double> noise(static_cast<size_t>(blocks));
  const auto sum_of_squares = [](const at::Tensor& x) {
    return at::sum(x * x, at::kDouble).item<double>();
  };
  pool.for_each(blocks, [&](int64_t block) {
    const int64_t begin = block * kRows;
    const int64_t end = std::min(rows, begin + kRows);
    const at::Tensor w = w_NK.slice(0, begin, end).to(at::kFloat);
    signal[static_cast<size_t>(block)] = sum_of_squares(w);
    noise[static_cast<size_t>(block)] = sum_of_squares(w - q_NK.slice(0, begin, end));
  });
  double signal_sum = 0.0;
  double noise_sum = 0.0;
  for (size_t block = 0; block < signal.size(); ++block) {
    signal_sum += signal[block];
    noise_sum += noise[block];
  }
  if (signal_sum == 0.0 || noise_sum == 0.0) return nullptr;
  return std::round(1000.0 * 10.0 * std::log10(signal_sum / noise_sum)) / 1000.0;
}

}  // namespace halftone
