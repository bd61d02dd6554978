#include "kernels/cuda_loops.cuh"
#include "kernels/int4_cuda.h"
#include "kernels/integer_elements.h"

namespace halftone::cuda {
namespace {

// Both kernels: a thread for kRun columns of a pair of rows, whose scales it asks for again where a
// block may end within the run.
template <typename Element>
__global__ void quantize(const typename Element::Storage* w, int64_t pairs, int64_t cols,
                         int64_t block, const float* scale_NB, bool aligned, uint8_t* packed) {
  const int64_t runs = (cols + kRun - 1) / kRun;
  const int64_t blocks = cols / block;
  for (int64_t pair = blockIdx.y; pair < pairs; pair += gridDim.y) {
    const auto* const even = w + 2 * pair * cols;
    const float* const scale = scale_NB + 2 * pair * blocks;
    for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < runs;
         i += int64_t{gridDim.x} * kThreads) {
      const int64_t at = i * kRun;
      const auto code = [&](typename Element::Storage low, typename Element::Storage high,
                            int64_t b) {
        return static_cast<uint8_t>(int4_code(Element::load(low), scale[b]) |
                                    (int4_code(Element::load(high), scale[blocks + b]) << 4));
      };
      if (at + kRun <= cols && block % kRun == 0) {
        const auto low = load_run<typename Element::Storage, kRun>(even + at, aligned);
        const auto high = load_run<typename Element::Storage, kRun>(even + cols + at, aligned);
        const int64_t b = at / block;
        Pack<uint8_t, kRun> result;
        for (int k = 0; k < kRun; ++k) result.v[k] = code(low.v[k], high.v[k], b);
        store_run<uint8_t, kRun>(result, packed + pair * cols + at, aligned);
      } else {
        for (int64_t c = at; c < min(at + kRun, cols); ++c) {
          packed[pair * cols + c] = code(even[c], even[cols + c], c / block);
        }
      }
    }
  }
}

template <typename Element>
__global__ void dequantize(const uint8_t* packed, int64_t pairs, int64_t cols, int64_t block,
                           const float* scale_NB, bool aligned, typename Element::Storage* w) {
  const int64_t runs = (cols + kRun - 1) / kRun;
  const int64_t blocks = cols / block;
  for (int64_t pair = blockIdx.y; pair < pairs; pair += gridDim.y) {
    auto* const even = w + 2 * pair * cols;
    const float* const scale = scale_NB + 2 * pair * blocks;
    for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < runs;
         i += int64_t{gridDim.x} * kThreads) {
      const int64_t at = i * kRun;
      const auto value = [](uint32_t nibble, float of_block) {
        return Element::store(float_of_int4(nibble) * of_block);
      };
      if (at + kRun <= cols && block % kRun == 0) {
        const auto codes = load_run<uint8_t, kRun>(packed + pair * cols + at, aligned);
        const int64_t b = at / block;
        Pack<typename Element::Storage, kRun> low, high;
        for (int k = 0; k < kRun; ++k) {
          low.v[k] = value(codes.v[k] & 15u, scale[b]);
          high.v[k] = value(codes.v[k] >> 4, scale[blocks + b]);
        }
        store_run<typename Element::Storage, kRun>(low, even + at, aligned);
        store_run<typename Element::Storage, kRun>(high, even + cols + at, aligned);
      } else {
        for (int64_t c = at; c < min(at + kRun, cols); ++c) {
          const uint32_t code = packed[pair * cols + c];
          even[c] = value(code & 15u, scale[c / block]);
          even[cols + c] = value(code >> 4, scale[blocks + c / block]);
        }
      }
    }
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

dim3 grid_of(int64_t pairs, int64_t cols) {
  return {blocks_for((cols + kRun - 1) / kRun),
          static_cast<unsigned>(std::min<int64_t>(pairs, 65535))};
}

template <typename Storage>
bool can_load_runs(const Storage* w, const uint8_t* packed, int64_t cols) {
  return is_aligned(w, alignof(Pack<Storage, kRun>)) &&
         is_aligned(packed, alignof(Pack<uint8_t, kRun>)) && cols % kRun == 0;
}

}  // namespace

void quantize_int4(const Context& context, const MatrixView& w_NK, int64_t block,
                   const float* scale_NB, uint8_t* packed) {
  if (w_NK.count() == 0) return;
  const int64_t pairs = w_NK.rows / 2;
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    quantize<Element><<<grid_of(pairs, w_NK.cols), kThreads, 0, stream_of(context)>>>(
        w, pairs, w_NK.cols, block, scale_NB, can_load_runs(w, packed, w_NK.cols), packed);
  });
  check_cuda(cudaGetLastError(), "quantize_int4");
}

void dequantize_int4(const Context& context, const uint8_t* packed, int64_t rows, int64_t cols,
                     int64_t block, const float* scale_NB, DType dtype, void* w_NK) {
  if (rows == 0 || cols == 0) return;
  with_element(dtype, [&](auto type) {
    using Element = decltype(type);
    auto* w = static_cast<typename Element::Storage*>(w_NK);
    dequantize<Element><<<grid_of(rows / 2, cols), kThreads, 0, stream_of(context)>>>(
        packed, rows / 2, cols, block, scale_NB, can_load_runs(w, packed, cols), w);
  });
  check_cuda(cudaGetLastError(), "dequantize_int4");
}

void fake_quantize_int4(const Context& context, const MatrixView& w_NK, const float* column_scale_K,
                        int64_t block, const float* amax_NB, float ratio, void* y_NK) {
  if (w_NK.count() == 0) return;
  const int64_t warps = w_NK.rows * ((w_NK.cols + block - 1) / block);
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    auto* y = static_cast<typename Element::Storage*>(y_NK);
    fake_quantize<Element><<<blocks_for_warps(warps), kThreads, 0, stream_of(context)>>>(
        w, w_NK.rows, w_NK.cols, column_scale_K, block, amax_NB, ratio, y);
  });
  check_cuda(cudaGetLastError(), "fake_quantize_int4");
}

}  // namespace halftone::cuda
