#include "kernels/nvfp4_cuda.h"

#include <type_traits>

#include "kernels/nvfp4_runs.cuh"

namespace halftone::cuda {
namespace {

// One thread has one block of elements from its amax to its codes.
template <typename Element, int kBlock>
struct BlockOfRuns {
  static constexpr int kRuns = kBlock / kRun;
  RunOf<Element> runs[kRuns];

  __device__ uint32_t largest_magnitude() const {
    uint32_t most = 0;
#pragma unroll
    for (int i = 0; i < kRuns; ++i) most = magnitudes_of(runs[i], most);
    return largest_of<Element>(most);
  }
};

template <typename Element, int kBlock>
__device__ BlockOfRuns<Element, kBlock> load_block(const typename Element::Storage* x,
                                                   bool aligned) {
  BlockOfRuns<Element, kBlock> block;
#pragma unroll
  for (int i = 0; i < kBlock / kRun; ++i) {
    block.runs[i] = load_run<typename Element::Storage, kRun>(x + i * kRun, aligned);
  }
  return block;
}

template <typename Element>
__device__ uint32_t exact_codes(const RunOf<Element>& run, float step) {
  uint32_t codes = 0;
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    codes |= static_cast<uint32_t>(e2m1_of_float(Element::load(run.v[i]) / step)) << (4 * i);
  }
  return codes;
}

template <typename Element, int kBlock>
__device__ Pack<uint32_t, kBlock / kRun> codes_of(const BlockOfRuns<Element, kBlock>& block,
                                                  uint32_t largest, float step) {
  const Division by = division_by<Element>(step, kMostE2m1Quotient);
  const bool fits = by.fits(largest);
  Pack<uint32_t, kBlock / kRun> codes;
#pragma unroll
  for (int i = 0; i < kBlock / kRun; ++i) {
    if (fits) {
      float x[kRun];
      magnitudes_as_floats<Element>(block.runs[i], x);
      codes.v[i] = e2m1_codes(x, by, nibble_signs<Element>(block.runs[i]));
    } else {
      codes.v[i] = exact_codes<Element>(block.runs[i], step);
    }
  }
  return codes;
}

// block_scales are written (kGiven false) or read.
template <typename Element, int kBlock, bool kGiven>
__global__ void quantize(const typename Element::Storage* w, int64_t blocks, float scale_2,
                         bool aligned, uint8_t* packed,
                         std::conditional_t<kGiven, const uint8_t*, uint8_t*> block_scales) {
  using Codes = Pack<uint32_t, kBlock / kRun>;
  const float d = 6.0f * scale_2;
  for (int64_t b = blockIdx.x * int64_t{kThreads} + threadIdx.x; b < blocks;
       b += int64_t{gridDim.x} * kThreads) {
    const auto block = load_block<Element, kBlock>(w + b * kBlock, aligned);
    const uint32_t largest = block.largest_magnitude();
    uint8_t scale;
    if constexpr (kGiven) {
      scale = block_scales[b];
    } else {
      scale = nvfp4_block_scale(Element::of_magnitude(largest), d);
      block_scales[b] = scale;
    }
    const Codes codes = codes_of(block, largest, float_of_e4m3(scale) * scale_2);
    uint8_t* const to = packed + b * (kBlock / 2);
    if (aligned) {
      *reinterpret_cast<Codes*>(to) = codes;
    } else {
      for (int i = 0; i < kBlock / 2; ++i) {
        to[i] = static_cast<uint8_t>(codes.v[i / 4] >> (8 * (i % 4)));
      }
    }
  }
}

__global__ void static_scales(const float* block_amax, int64_t count, StaticNvfp4 scale,
                              uint8_t* block_scales) {
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * kThreads) {
    block_scales[i] = static_nvfp4_scale(block_amax[i], scale);
  }
}

template <typename Element>
__device__ RunOf<Element> values_of(uint32_t codes, float step) {
  if (!isfinite(step)) {
    RunOf<Element> w;
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      w.v[i] = Element::store(float_of_e2m1((codes >> (4 * i)) & 15u) * step);
    }
    return w;
  }
  float x[kRun];
  floats_of_e2m1(codes, x);
#pragma unroll
  for (float& value : x) value *= step;
  return run_of<Element>(x);
}

// A thread for a run: neighbours share a block.
template <typename Element, int kBlock>
__global__ void dequantize(const uint8_t* packed, const uint8_t* block_scales, int64_t blocks,
                           float scale_2, bool aligned, typename Element::Storage* w) {
  constexpr int kBytes = kRun / 2;
  const auto scale_of_run = [&](int64_t i) {
    return float_of_e4m3(block_scales[i / (kBlock / kRun)]) * scale_2;
  };
  struct Codes {
    uint32_t codes;
    float step;
  };
  for_runs_of_row(
      blocks * kBlock,
      [&](int64_t i) {
        const auto bytes = load_run<uint8_t, kBytes>(packed + i * kBytes, aligned);
        Codes codes{0, scale_of_run(i)};
        memcpy(&codes.codes, bytes.v, sizeof(codes.codes));
        return codes;
      },
      [&](int64_t i, const Codes& codes) {
        store_run<typename Element::Storage, kRun>(values_of<Element>(codes.codes, codes.step),
                                                   w + i * kRun, aligned);
      },
      [](int64_t) {});
}

template <typename Element>
__device__ typename Element::Storage fake_value(typename Element::Storage x, float step) {
  return Element::store(round_to_e2m1(Element::load(x) / step) * step);
}

template <typename Element>
__device__ RunOf<Element> fake_run(const RunOf<Element>& x, const Division& by) {
  float magnitudes[kRun], signed_x[kRun];
  magnitudes_as_floats<Element>(x, magnitudes);
  floats_of<Element>(without_negative_zeros<Element>(x), signed_x);
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    const float value = round_magnitude_to_e2m1(by.of(magnitudes[i])) * by.divisor;
    magnitudes[i] = copysignf(value, signed_x[i]);
  }
  return run_of<Element>(magnitudes);
}

template <typename Element>
__device__ RunOf<Element> scaled_run(const RunOf<Element>& x, const float* column_scale) {
  const auto scale = load_run<float, kRun>(column_scale, true);
  float values[kRun];
  floats_of<Element>(x, values);
#pragma unroll
  for (int i = 0; i < kRun; ++i) values[i] *= scale.v[i];
  return run_of<Element>(values);
}

// In place is allowed: a block is read before it is written. column_scale may be null. For rows of
// whole blocks at addresses that allow wide loads.
template <typename Element, int kBlock>
__global__ void fake_quantize_whole(const typename Element::Storage* x, const float* column_scale,
                                    int64_t rows, int64_t cols, float g,
                                    typename Element::Storage* y) {
  using Storage = typename Element::Storage;
  const float d = 6.0f * g;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    for (int64_t column = (blockIdx.x * int64_t{kThreads} + threadIdx.x) * kBlock; column < cols;
         column += int64_t{gridDim.x} * kThreads * kBlock) {
      const int64_t at = row * cols + column;
      auto block = load_block<Element, kBlock>(x + at, true);
      if (column_scale != nullptr) {
#pragma unroll
        for (int i = 0; i < kBlock / kRun; ++i) {
          block.runs[i] = scaled_run<Element>(block.runs[i], column_scale + column + i * kRun);
        }
      }
      const uint32_t largest = block.largest_magnitude();
      const float step = fake_nvfp4_step(Element::of_magnitude(largest), d, g);
      // A quotient beyond 6 becomes 6: only infinities and NaN need division.
      Division by = division_by<Element>(step, 1.0f);
      const bool fits = by.most >= 0 && largest < Element::kInfinity;
#pragma unroll
      for (int i = 0; i < kBlock / kRun; ++i) {
        RunOf<Element> result;
        if (fits) {
          result = fake_run<Element>(block.runs[i], by);
        } else {
#pragma unroll
          for (int k = 0; k < kRun; ++k) {
            result.v[k] = fake_value<Element>(block.runs[i].v[k], step);
          }
        }
        store_run<Storage, kRun>(result, y + at + i * kRun, true);
      }
    }
  }
}

// The same for any row.
template <typename Element, int kBlock>
__global__ void fake_quantize(const typename Element::Storage* x, const float* column_scale,
                              int64_t rows, int64_t cols, float g, typename Element::Storage* y) {
  const float d = 6.0f * g;
  const int64_t blocks_of_row = (cols + kBlock - 1) / kBlock;
  for (int64_t b = blockIdx.x * int64_t{kThreads} + threadIdx.x; b < rows * blocks_of_row;
       b += int64_t{gridDim.x} * kThreads) {
    const int64_t column = b % blocks_of_row * kBlock;
    const int64_t at = b / blocks_of_row * cols + column;
    const int size = static_cast<int>(min(int64_t{kBlock}, cols - column));
    Pack<typename Element::Storage, kBlock> block = {};
    uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < kBlock; ++i) {
      if (i >= size) continue;
      block.v[i] = x[at + i];
      if (column_scale != nullptr) {
        block.v[i] = Element::store(Element::load(block.v[i]) * column_scale[column + i]);
      }
      largest = max(largest, Element::magnitude(block.v[i]));
    }
    const float step = fake_nvfp4_step(Element::of_magnitude(largest), d, g);
#pragma unroll
    for (int i = 0; i < kBlock; ++i) {
      if (i < size) y[at + i] = fake_value<Element>(block.v[i], step);
    }
  }
}

template <typename Element, int kBlock, bool kGiven, typename Scales>
void launch_quantize(const Context& context, const MatrixView& w_NK, float scale_2, uint8_t* packed,
                     Scales block_scales) {
  using Storage = typename Element::Storage;
  const auto* w = static_cast<const Storage*>(w_NK.data);
  const int64_t blocks = w_NK.count() / kBlock;
  const bool aligned = is_aligned(w, alignof(Pack<Storage, kBlock>)) && is_aligned(packed, 16);
  quantize<Element, kBlock, kGiven><<<blocks_for(blocks), kThreads, 0, stream_of(context)>>>(
      w, blocks, scale_2, aligned, packed, block_scales);
}

template <typename Element, int kBlock>
void launch_dequantize(const Context& context, const uint8_t* packed, const uint8_t* block_scales,
                       int64_t count, float scale_2, typename Element::Storage* w) {
  using Storage = typename Element::Storage;
  const int64_t blocks = count / kBlock;
  const bool aligned = is_aligned(w, alignof(Pack<Storage, kBlock>)) && is_aligned(packed, 16);
  dequantize<Element, kBlock><<<grid_of_rows(1, count), kThreads, 0, stream_of(context)>>>(
      packed, block_scales, blocks, scale_2, aligned, w);
}

template <typename Element, int kBlock>
void launch_fake_quantize(const Context& context, const MatrixView& x_TK, const float* column_scale,
                          float g, void* y_TK) {
  using Storage = typename Element::Storage;
  const auto* x = static_cast<const Storage*>(x_TK.data);
  auto* y = static_cast<Storage*>(y_TK);
  const int64_t blocks_of_row = (x_TK.cols + kBlock - 1) / kBlock;
  if (x_TK.cols % kBlock == 0 && has_aligned_rows(x, y, x_TK.rows, x_TK.cols) &&
      is_aligned(column_scale, alignof(Pack<float, kRun>))) {
    const dim3 grid(blocks_for(blocks_of_row),
                    static_cast<unsigned>(std::min<int64_t>(x_TK.rows, 65535)));
    fake_quantize_whole<Element, kBlock>
        <<<grid, kThreads, 0, stream_of(context)>>>(x, column_scale, x_TK.rows, x_TK.cols, g, y);
    return;
  }
  fake_quantize<Element, kBlock>
      <<<blocks_for(x_TK.rows * blocks_of_row), kThreads, 0, stream_of(context)>>>(
          x, column_scale, x_TK.rows, x_TK.cols, g, y);
}

}  // namespace

void quantize_nvfp4(const Context& context, const MatrixView& w_NK, int block, float scale_2,
                    uint8_t* packed, uint8_t* block_scales) {
  if (w_NK.count() == 0) return;
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto launch = block == 16 ? launch_quantize<Element, 16, false, uint8_t*>
                                    : launch_quantize<Element, 32, false, uint8_t*>;
    launch(context, w_NK, scale_2, packed, block_scales);
  });
  check_cuda(cudaGetLastError(), "quantize_nvfp4");
}

void quantize_nvfp4_with_scales(const Context& context, const MatrixView& w_NK, int block,
                                const uint8_t* block_scales, float scale_2, uint8_t* packed) {
  if (w_NK.count() == 0) return;
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto launch = block == 16 ? launch_quantize<Element, 16, true, const uint8_t*>
                                    : launch_quantize<Element, 32, true, const uint8_t*>;
    launch(context, w_NK, scale_2, packed, block_scales);
  });
  check_cuda(cudaGetLastError(), "quantize_nvfp4_with_scales");
}

void static_nvfp4_scales(const Context& context, const float* block_amax, int64_t count,
                         const StaticNvfp4& scale, uint8_t* block_scales) {
  if (count == 0) return;
  static_scales<<<blocks_for(count), kThreads, 0, stream_of(context)>>>(block_amax, count, scale,
                                                                        block_scales);
  check_cuda(cudaGetLastError(), "static_nvfp4_scales");
}

void dequantize_nvfp4(const Context& context, const uint8_t* packed, const uint8_t* block_scales,
                      int64_t count, int block, float scale_2, DType dtype, void* w_NK) {
  if (count == 0) return;
  with_element(dtype, [&](auto type) {
    using Element = decltype(type);
    const auto launch =
        block == 16 ? launch_dequantize<Element, 16> : launch_dequantize<Element, 32>;
    launch(context, packed, block_scales, count, scale_2,
           static_cast<typename Element::Storage*>(w_NK));
  });
  check_cuda(cudaGetLastError(), "dequantize_nvfp4");
}

void fake_quantize_nvfp4(const Context& context, const MatrixView& x_TK,
                         const float* column_scale_K, int block, float g, void* y_TK) {
  if (x_TK.count() == 0) return;
  with_element(x_TK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto launch =
        block == 16 ? launch_fake_quantize<Element, 16> : launch_fake_quantize<Element, 32>;
    launch(context, x_TK, column_scale_K, g, y_TK);
  });
  check_cuda(cudaGetLastError(), "fake_quantize_nvfp4");
}

}  // namespace halftone::cuda
