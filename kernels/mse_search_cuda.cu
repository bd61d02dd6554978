#include "kernels/cuda_runs.cuh"
#include "kernels/mse_elements.h"
#include "kernels/mse_search_cuda.h"

namespace halftone::cuda {
namespace {

struct Best {
  double error;
  int64_t index;
};

__device__ Best better(Best a, Best b) {
  if (a.error != b.error) return a.error < b.error ? a : b;
  return a.index < b.index ? a : b;
}

// squared_error() of one candidate. The sign of a zero does not reach a square.
struct SquaredError {
  IntCandidate candidate;
  Division by;

  __device__ explicit SquaredError(const IntCandidate& of)
      : candidate(of), by(division_of_integers_by(of.scale)) {}

  __device__ double operator()(float x) const {
    const auto [amax, scale, low, high] = candidate;
    if (by.most < 0) return squared_error(x, scale, low, high);
    const float clamped = fmaxf(fminf(x * scale, high), low);
    const float error = x - by.of((clamped + kHalfToEven) - kHalfToEven);
    return static_cast<double>(error * error);
  }
};

// A warp for every block of every row, a thread for every candidate: the sum of each is in the
// order of the elements, as on the CPU.
template <typename Element>
__global__ void search(const typename Element::Storage* w, int64_t rows, int64_t cols, float bound,
                       int64_t block, const float* amax_NB, const float* multipliers, int64_t count,
                       float* best_amax_NB) {
  const int64_t blocks = (cols + block - 1) / block;
  const int64_t warps = int64_t{gridDim.x} * (kThreads / kWarp);
  const int lane = threadIdx.x % kWarp;
  for (int64_t i = blockIdx.x * int64_t{kThreads / kWarp} + threadIdx.x / kWarp; i < rows * blocks;
       i += warps) {
    const int64_t begin = i % blocks * block;
    const int64_t end = min(begin + block, cols);
    const auto* const x = w + i / blocks * cols;
    Best best{static_cast<double>(float_of_bits(0x7f800000u)), lane < count ? lane : 0};
    for (int64_t j = lane; j < count; j += kWarp) {
      const SquaredError error(int_candidate(amax_NB[i] * multipliers[j], bound));
      double sum = 0.0;
      for (int64_t c = begin; c < end; ++c) {
        sum += error(Element::load(x[c]));
      }
      best = better(best, Best{comparable(sum), j});
    }
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      const Best other{__shfl_down_sync(0xffffffffu, best.error, offset),
                       __shfl_down_sync(0xffffffffu, best.index, offset)};
      best = better(best, other);
    }
    if (lane == 0) best_amax_NB[i] = amax_NB[i] * multipliers[best.index];
  }
}

}  // namespace

void search_int_amax(const Context& context, const MatrixView& w_NK, int bits, int64_t block,
                     const float* amax_NB, const float* multipliers, int64_t count,
                     float* best_amax_NB) {
  if (w_NK.count() == 0) return;
  const float bound = bits == 8 ? 127.0f : 7.0f;
  const int64_t warps = w_NK.rows * ((w_NK.cols + block - 1) / block);
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    search<Element><<<blocks_for_warps(warps), kThreads, 0, stream_of(context)>>>(
        w, w_NK.rows, w_NK.cols, bound, block, amax_NB, multipliers, count, best_amax_NB);
  });
  check_cuda(cudaGetLastError(), "search_int_amax");
}

}  // namespace halftone::cuda
