#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/context.h"
#include "kernels/cuda_check.h"
#include "kernels/numeric_types.h"

namespace halftone::cuda {

inline constexpr int kThreads = 256;
inline constexpr int kRun = 8;  // neighbouring elements of one thread

inline cudaStream_t stream_of(const Context& context) {
  return static_cast<cudaStream_t>(context.stream);
}

inline unsigned blocks_for(int64_t threads) {
  constexpr int64_t kMost = 1 << 20;
  return static_cast<unsigned>(std::min(kMost, (threads + kThreads - 1) / kThreads));
}

inline bool is_aligned(const void* data, size_t bytes) {
  return reinterpret_cast<uintptr_t>(data) % bytes == 0;
}

// kCount neighbours that travel in wide loads and stores when the address allows.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount < 16 ? sizeof(T) * kCount : 16) Pack {
  T v[kCount];
};

template <typename T, int kCount>
__device__ Pack<T, kCount> load_run(const T* data, bool aligned) {
  Pack<T, kCount> run;
  if (aligned) {
    run = *reinterpret_cast<const Pack<T, kCount>*>(data);
  } else {
    for (int i = 0; i < kCount; ++i) run.v[i] = data[i];
  }
  return run;
}

template <typename T, int kCount>
__device__ void store_run(const Pack<T, kCount>& run, T* data, bool aligned) {
  if (aligned) {
    *reinterpret_cast<Pack<T, kCount>*>(data) = run;
  } else {
    for (int i = 0; i < kCount; ++i) data[i] = run.v[i];
  }
}

// out[r, c] = map(r)(in[r, c]). A run is read before it is written: in place is allowed.
template <typename In, typename Out, typename Map>
__global__ void map_rows(const In* in, int64_t rows, int64_t cols, Out* out, bool aligned,
                         Map map) {
  const int64_t runs = (cols + kRun - 1) / kRun;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const auto element = map(row);
    const In* const from = in + row * cols;
    Out* const to = out + row * cols;
    for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < runs;
         i += int64_t{gridDim.x} * kThreads) {
      const int64_t at = i * kRun;
      if (at + kRun <= cols) {
        const Pack<In, kRun> run = load_run<In, kRun>(from + at, aligned);
        Pack<Out, kRun> result;
        for (int k = 0; k < kRun; ++k) result.v[k] = element(run.v[k]);
        store_run<Out, kRun>(result, to + at, aligned);
      } else {
        for (int64_t k = at; k < cols; ++k) to[k] = element(from[k]);
      }
    }
  }
}

template <typename In, typename Out, typename Map>
void launch_map_rows(const Context& context, const In* in, int64_t rows, int64_t cols, Out* out,
                     const Map& map) {
  if (rows == 0 || cols == 0) return;
  const bool aligned = is_aligned(in, alignof(Pack<In, kRun>)) &&
                       is_aligned(out, alignof(Pack<Out, kRun>)) && (rows == 1 || cols % kRun == 0);
  const dim3 grid(blocks_for((cols + kRun - 1) / kRun),
                  static_cast<unsigned>(std::min<int64_t>(rows, 65535)));
  map_rows<<<grid, kThreads, 0, stream_of(context)>>>(in, rows, cols, out, aligned, map);
  check_cuda(cudaGetLastError(), "map_rows");
}

// Every row is treated alike, so a matrix is one row.
template <typename Of>
struct SameForEveryRow {
  Of element;
  __device__ Of operator()(int64_t) const { return element; }
};

// A functor that is made from its row's scale.
template <typename Of>
struct WithScaleOfRow {
  const float* scale_N;
  __device__ Of operator()(int64_t row) const { return Of{scale_N[row]}; }
};

// out[r, c] = map(r, c / block)(in[r, c]). As map_rows; a run that lies in one block asks map once.
template <typename In, typename Out, typename Map>
__global__ void map_blocks(const In* in, int64_t rows, int64_t cols, int64_t block, Out* out,
                           bool aligned, Map map) {
  const int64_t runs = (cols + kRun - 1) / kRun;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const In* const from = in + row * cols;
    Out* const to = out + row * cols;
    for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < runs;
         i += int64_t{gridDim.x} * kThreads) {
      const int64_t at = i * kRun;
      if (at + kRun <= cols && block % kRun == 0) {
        const auto element = map(row, at / block);
        const Pack<In, kRun> run = load_run<In, kRun>(from + at, aligned);
        Pack<Out, kRun> result;
        for (int k = 0; k < kRun; ++k) result.v[k] = element(run.v[k]);
        store_run<Out, kRun>(result, to + at, aligned);
      } else {
        const int64_t end = at + kRun < cols ? at + kRun : cols;
        for (int64_t k = at; k < end; ++k) to[k] = map(row, k / block)(from[k]);
      }
    }
  }
}

template <typename In, typename Out, typename Map>
void launch_map_blocks(const Context& context, const In* in, int64_t rows, int64_t cols,
                       int64_t block, Out* out, const Map& map) {
  if (rows == 0 || cols == 0) return;
  const bool aligned = is_aligned(in, alignof(Pack<In, kRun>)) &&
                       is_aligned(out, alignof(Pack<Out, kRun>)) && (rows == 1 || cols % kRun == 0);
  const dim3 grid(blocks_for((cols + kRun - 1) / kRun),
                  static_cast<unsigned>(std::min<int64_t>(rows, 65535)));
  map_blocks<<<grid, kThreads, 0, stream_of(context)>>>(in, rows, cols, block, out, aligned, map);
  check_cuda(cudaGetLastError(), "map_blocks");
}

inline constexpr int kWarp = 32;

// The largest of a warp's values, in all of its threads, which all call this.
__device__ inline uint32_t max_of_warp(uint32_t value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value = max(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  return value;
}

// Blocks of threads for `warps` warps; the kernel loops for those beyond.
inline unsigned blocks_for_warps(int64_t warps) {
  return blocks_for(std::min<int64_t>(warps, int64_t{1} << 40) * kWarp);
}

}  // namespace halftone::cuda
