#include "kernels/cuda_runs.cuh"
#include "kernels/int4_cuda.h"
#include "kernels/integer_elements.h"

namespace halftone::cuda {
namespace {

// Both kernels: a thread for kRun columns of a pair of rows, whose scales it asks for again where a
// block may end within the run.
template <typename Element>
struct PairOfRuns {
  RunOf<Element> low;
  RunOf<Element> high;
};
constexpr int kPairsAhead = 2;

template <typename Element>
__device__ uint8_t code_of(typename Element::Storage low, typename Element::Storage high,
                           float low_scale, float high_scale) {
  return static_cast<uint8_t>(int4_code(Element::load(low), low_scale) |
                              (int4_code(Element::load(high), high_scale) << 4));
}

template <typename Element>
__device__ Pack<uint8_t, kRun> codes_of(const PairOfRuns<Element>& w, float low_scale,
                                        float high_scale) {
  const Division by_low = division_by<Element>(low_scale, 7.4f);
  const Division by_high = division_by<Element>(high_scale, 7.4f);
  if (!by_low.fits(largest_magnitude<Element>(w.low)) ||
      !by_high.fits(largest_magnitude<Element>(w.high))) {
    Pack<uint8_t, kRun> codes;
#pragma unroll
    for (int k = 0; k < kRun; ++k) {
      codes.v[k] = code_of<Element>(w.low.v[k], w.high.v[k], low_scale, high_scale);
    }
    return codes;
  }
  float low[kRun], high[kRun];
  floats_of<Element>(w.low, low);
  floats_of<Element>(w.high, high);
  uint32_t bytes[kRun];
#pragma unroll
  for (int k = 0; k < kRun; ++k) {
    // Both codes + 8, so that the lower one borrows nothing from the upper one.
    const float upper = by_high.of(high[k]) + kHalfToEven - (kHalfToEven - 8.0f);
    const float lower = by_low.of(low[k]) + (kHalfToEven + 8.0f);
    bytes[k] = bits_of(__fmaf_rn(upper, 16.0f, lower)) ^ 0x88u;
  }
  return low_bytes<uint8_t>(bytes);
}

template <typename Element>
__global__ void quantize(const typename Element::Storage* w, int64_t pairs, int64_t cols,
                         uint32_t block, const float* scale_NB, bool aligned, uint8_t* packed) {
  using Storage = typename Element::Storage;
  const int64_t blocks = cols / block;
  for (int64_t pair = blockIdx.y; pair < pairs; pair += gridDim.y) {
    const Storage* const even = w + 2 * pair * cols;
    const float* const scale = scale_NB + 2 * pair * blocks;
    uint8_t* const to = packed + pair * cols;
    const auto single = [&](int64_t c) {
      const uint32_t b = static_cast<uint32_t>(c) / block;
      to[c] = code_of<Element>(even[c], even[cols + c], scale[b], scale[blocks + b]);
    };
    const RunsOfRow<Storage> low{even, aligned}, high{even + cols, aligned};
    for_runs_of_row<kPairsAhead>(
        cols,
        [&](int64_t i) {
          return PairOfRuns<Element>{low(i), high(i)};
        },
        [&](int64_t i, const PairOfRuns<Element>& runs) {
          if (block % kRun == 0) {
            const uint32_t b = static_cast<uint32_t>(i * kRun) / block;
            store_run<uint8_t, kRun>(codes_of(runs, scale[b], scale[blocks + b]), to + i * kRun,
                                     aligned);
          } else {
            for (int64_t c = i * kRun; c < (i + 1) * kRun; ++c) single(c);
          }
        },
        single);
  }
}

template <typename Element>
__device__ typename Element::Storage value_of(uint32_t nibble, float scale) {
  return Element::store(float_of_int4(nibble) * scale);
}

// The numbers of the lower or upper nibbles.
template <typename Element>
__device__ RunOf<Element> values_of(const Pack<uint8_t, kRun>& codes, int shift, float scale) {
  RunOf<Element> w;
  if (!isfinite(scale)) {
#pragma unroll
    for (int k = 0; k < kRun; ++k) w.v[k] = value_of<Element>((codes.v[k] >> shift) & 15u, scale);
    return w;
  }
  float x[kRun];
#pragma unroll
  for (int k = 0; k < kRun; ++k) {
    // A code + 8 has its sign bit turned over.
    const uint32_t above = ((four_bytes(codes, k / 4) >> shift) & 0x0f0f0f0fu) ^ 0x08080808u;
    x[k] = (byte_above_2_23(above, k % 4) - (0x1p23f + 8.0f)) * scale;
  }
  return run_of<Element>(x);
}

template <typename Element>
__global__ void dequantize(const uint8_t* packed, int64_t pairs, int64_t cols, uint32_t block,
                           const float* scale_NB, bool aligned, typename Element::Storage* w) {
  using Storage = typename Element::Storage;
  const int64_t blocks = cols / block;
  for (int64_t pair = blockIdx.y; pair < pairs; pair += gridDim.y) {
    Storage* const even = w + 2 * pair * cols;
    const float* const scale = scale_NB + 2 * pair * blocks;
    const uint8_t* const from = packed + pair * cols;
    const auto single = [&](int64_t c) {
      const uint32_t b = static_cast<uint32_t>(c) / block;
      even[c] = value_of<Element>(from[c] & 15u, scale[b]);
      even[cols + c] = value_of<Element>(from[c] >> 4, scale[blocks + b]);
    };
    for_runs_of_row<kPairsAhead>(
        cols, RunsOfRow<uint8_t>{from, aligned},
        [&](int64_t i, const Pack<uint8_t, kRun>& codes) {
          if (block % kRun == 0) {
            const uint32_t b = static_cast<uint32_t>(i * kRun) / block;
            Storage* const to = even + i * kRun;
            store_run<Storage, kRun>(values_of<Element>(codes, 0, scale[b]), to, aligned);
            store_run<Storage, kRun>(values_of<Element>(codes, 4, scale[blocks + b]), to + cols,
                                     aligned);
          } else {
            for (int64_t c = i * kRun; c < (i + 1) * kRun; ++c) single(c);
          }
        },
        single);
  }
}

// A warp for every block of every row. A thread reads an element before it writes it.
template <typename Element>
__global__ void fake_quantize(const typename Element::Storage* w, int64_t rows, int64_t cols,
                              const float* column_scale_K, int64_t block, const float* amax_NB,
                              float ratio, typename Element::Storage* y) {
  const int64_t blocks = (cols + block - 1) / block;
  const int64_t warps = int64_t{gridDim.x} * (kThreads / kWarp);
  for (int64_t i = blockIdx.x * int64_t{kThreads / kWarp} + threadIdx.x / kWarp; i < rows * blocks;
       i += warps) {
    const int64_t row = i / blocks;
    const int64_t begin = i % blocks * block + threadIdx.x % kWarp;
    const int64_t end = min(i % blocks * block + block, cols);
    const auto smoothed = [&](int64_t c) {
      const float value = Element::load(w[row * cols + c]);
      return column_scale_K == nullptr ? value : round_to<Element>(value * column_scale_K[c]);
    };
    uint32_t largest = 0;
    if (amax_NB == nullptr) {
      for (int64_t c = begin; c < end; c += kWarp) {
        largest = max(largest, F32Element::magnitude(smoothed(c)));
      }
      largest = max_of_warp(largest);
    } else {
      largest = bits_of(amax_NB[i]);
    }
    const float amax = float_of_bits(largest) * ratio;
    const float scale = 7.0f / amax;
    for (int64_t c = begin; c < end; c += kWarp) {
      y[row * cols + c] =
          Element::store(is_no_amax(amax) ? 0.0f : fake_integer(smoothed(c), scale, -8.0f, 7.0f));
    }
  }
}

template <typename Element>
struct FakeQuantize {
  float scale;
  Division by;

  __device__ explicit FakeQuantize(float amax)
      : scale(7.0f / amax), by(division_of_integers_by(scale)) {}

  __device__ typename Element::Storage operator()(typename Element::Storage x) const {
    return Element::store(fake_integer(Element::load(x), scale, -8.0f, 7.0f));
  }
  __device__ RunOf<Element> run(const RunOf<Element>& x_run) const {
    if (by.most < 0 || largest_magnitude<Element>(x_run) > Element::kInfinity) {
      return one_by_one<typename Element::Storage>(*this, x_run);
    }
    float x[kRun];
    floats_of<Element>(x_run, x);
#pragma unroll
    for (float& value : x) value = by.of(rintf(fmaxf(fminf(value * scale, 7.0f), -8.0f)));
    return run_of<Element>(x);
  }
};

// fake_quantize() for blocks whose threads have a run each: an element is read once.
template <typename Element>
__global__ void fake_quantize_runs(const typename Element::Storage* w, int64_t rows, int64_t cols,
                                   const float* column_scale_K, int lanes, const float* amax_NB,
                                   float ratio, typename Element::Storage* y) {
  using Storage = typename Element::Storage;
  const int64_t runs = cols / kRun;
  const int log_lanes = __ffs(lanes) - 1;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    for (int64_t first = blockIdx.x * kThreads; first < runs; first += gridDim.x * kThreads) {
      const int64_t i = first + threadIdx.x;
      RunOf<Element> x = {};
      if (i < runs) {
        x = load_run<Storage, kRun>(w + row * cols + i * kRun, true);
        if (column_scale_K != nullptr) {
          const auto scale = load_run<float, kRun>(column_scale_K + i * kRun, true);
          float values[kRun];
          floats_of<Element>(x, values);
#pragma unroll
          for (int k = 0; k < kRun; ++k) values[k] *= scale.v[k];
          x = run_of<Element>(values);
        }
      }
      const uint32_t largest = max_of_lanes(largest_magnitude<Element>(x), lanes);
      if (i >= runs) continue;
      const float of_block = amax_NB == nullptr
                                 ? Element::of_magnitude(largest)
                                 : amax_NB[row * (runs >> log_lanes) + (i >> log_lanes)];
      const float amax = of_block * ratio;
      RunOf<Element> result = {};
      if (!is_no_amax(amax)) result = FakeQuantize<Element>(amax).run(x);
      store_run<Storage, kRun>(result, y + row * cols + i * kRun, true);
    }
  }
}

template <typename Storage>
bool can_load_runs(const Storage* w, const uint8_t* packed, int64_t cols) {
  return has_aligned_rows(w, packed, 2, cols);
}

}  // namespace

void quantize_int4(const Context& context, const MatrixView& w_NK, int64_t block,
                   const float* scale_NB, uint8_t* packed) {
  if (w_NK.count() == 0) return;
  const int64_t pairs = w_NK.rows / 2;
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    quantize<Element>
        <<<grid_of_rows<kPairsAhead>(pairs, w_NK.cols), kThreads, 0, stream_of(context)>>>(
            w, pairs, w_NK.cols, static_cast<uint32_t>(block), scale_NB,
            can_load_runs(w, packed, w_NK.cols), packed);
  });
  check_cuda(cudaGetLastError(), "quantize_int4");
}

void dequantize_int4(const Context& context, const uint8_t* packed, int64_t rows, int64_t cols,
                     int64_t block, const float* scale_NB, DType dtype, void* w_NK) {
  if (rows == 0 || cols == 0) return;
  with_element(dtype, [&](auto type) {
    using Element = decltype(type);
    auto* w = static_cast<typename Element::Storage*>(w_NK);
    dequantize<Element>
        <<<grid_of_rows<kPairsAhead>(rows / 2, cols), kThreads, 0, stream_of(context)>>>(
            packed, rows / 2, cols, static_cast<uint32_t>(block), scale_NB,
            can_load_runs(w, packed, cols), w);
  });
  check_cuda(cudaGetLastError(), "dequantize_int4");
}

void fake_quantize_int4(const Context& context, const MatrixView& w_NK, const float* column_scale_K,
                        int64_t block, const float* amax_NB, float ratio, void* y_NK) {
  if (w_NK.count() == 0) return;
  const int lanes = lanes_of_block(w_NK.cols, block);
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    auto* y = static_cast<typename Element::Storage*>(y_NK);
    if (lanes != 0 && has_aligned_rows(w, y, w_NK.rows, w_NK.cols) &&
        is_aligned(column_scale_K, alignof(Pack<float, kRun>))) {
      fake_quantize_runs<Element>
          <<<grid_of_rows<1>(w_NK.rows, w_NK.cols), kThreads, 0, stream_of(context)>>>(
              w, w_NK.rows, w_NK.cols, column_scale_K, lanes, amax_NB, ratio, y);
      return;
    }
    const int64_t warps = w_NK.rows * ((w_NK.cols + block - 1) / block);
    fake_quantize<Element><<<blocks_for_warps(warps), kThreads, 0, stream_of(context)>>>(
        w, w_NK.rows, w_NK.cols, column_scale_K, block, amax_NB, ratio, y);
  });
  check_cuda(cudaGetLastError(), "fake_quantize_int4");
}

}  // namespace halftone::cuda
