#include "engine/sqnr.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace halftone {
namespace {

struct SquareSums {
  double signal = 0.0;
  double noise = 0.0;
};

// In fp32 for a few thousand elements, then in fp64; the lanes are those of a vector register.
SquareSums square_sums(const float* w, const float* q, int64_t count) {
  constexpr int64_t kLanes = 16;
  constexpr int64_t kRun = 256 * kLanes;
  SquareSums sums;
  for (int64_t start = 0; start < count; start += kRun) {
    const int64_t size = std::min(kRun, count - start);
    const int64_t whole = size / kLanes * kLanes;
    float signal[kLanes] = {};
    float noise[kLanes] = {};
    for (int64_t i = start; i < start + whole; i += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const float value = w[i + lane];
        const float error = value - q[i + lane];
        signal[lane] += value * value;
        noise[lane] += error * error;
      }
    }
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      sums.signal += signal[lane];
      sums.noise += noise[lane];
    }
    for (int64_t i = start + whole; i < start + size; ++i) {
      sums.signal += static_cast<double>(w[i]) * w[i];
      sums.noise += static_cast<double>(w[i] - q[i]) * (w[i] - q[i]);
    }
  }
  return sums;
}

SquareSums sums_of_piece(const at::Tensor& w, const at::Tensor& q) {
  const at::Tensor wide = w.to(at::kFloat).contiguous();
  if (wide.is_cpu()) {
    return square_sums(wide.const_data_ptr<float>(), q.const_data_ptr<float>(), wide.numel());
  }
  const at::Tensor error = wide - q;
  return {at::sum(wide * wide, at::kDouble).item<double>(),
          at::sum(error * error, at::kDouble).item<double>()};
}

int64_t rows_of_piece(const at::Tensor& w_NK, int64_t multiple) {
  if (multiple == 0) return w_NK.size(0);
  const int64_t elements = w_NK.is_cpu() ? kSqnrPieceOnHost : kSqnrPieceOnGpu;
  const int64_t rows = std::max<int64_t>(elements / std::max<int64_t>(w_NK.size(1), 1), 1);
  return (rows + multiple - 1) / multiple * multiple;
}

}  // namespace

Json sqnr_db(const at::Tensor& w_NK, const Codec& codec, const PackedLinear& packed,
             ThreadPool& pool) {
  const int64_t out = w_NK.size(0);
  const int64_t multiple = codec.row_multiple();
  const int64_t rows = rows_of_piece(w_NK, multiple);
  std::vector<SquareSums> sums(static_cast<size_t>((out + rows - 1) / rows));
  pool.for_each(static_cast<int64_t>(sums.size()), [&](int64_t piece) {
    const int64_t begin = piece * rows;
    const int64_t end = std::min(out, begin + rows);
    const PackedLinear of_piece = multiple == 0 ? packed : codec.rows(packed, begin, end);
    sums[static_cast<size_t>(piece)] =
        sums_of_piece(w_NK.slice(0, begin, end), codec.unpack(of_piece, at::kFloat, nullptr));
  });
  SquareSums total;
  for (const SquareSums& of_piece : sums) {
    total.signal += of_piece.signal;
    total.noise += of_piece.noise;
  }
  if (total.signal == 0.0 || total.noise == 0.0) return nullptr;
  return std::round(1000.0 * 10.0 * std::log10(total.signal / total.noise)) / 1000.0;
}

}  // namespace halftone
