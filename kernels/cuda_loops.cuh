#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "kernels/check.h"
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
#pragma unroll
    for (int i = 0; i < kCount; ++i) run.v[i] = data[i];
  }
  return run;
}

template <typename T, int kCount>
__device__ void store_run(const Pack<T, kCount>& run, T* data, bool aligned) {
  if (aligned) {
    *reinterpret_cast<Pack<T, kCount>*>(data) = run;
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) data[i] = run.v[i];
  }
}

// Whether a functor of elements can also take a run of them.
template <typename Of, typename In, typename = void>
inline constexpr bool kTakesRuns = false;
template <typename Of, typename In>
inline constexpr bool
    kTakesRuns<Of, In, std::void_t<decltype(std::declval<Of>().run(Pack<In, kRun>{}))>> = true;

// Unrolled, as everything that touches a run: an index that is not a constant would move it from
// registers to memory.
template <typename Out, typename Of, typename In>
__device__ Pack<Out, kRun> one_by_one(const Of& element, const Pack<In, kRun>& run) {
  Pack<Out, kRun> result;
#pragma unroll
  for (int k = 0; k < kRun; ++k) result.v[k] = element(run.v[k]);
  return result;
}

template <typename Out, typename Of, typename In>
__device__ Pack<Out, kRun> apply(const Of& element, const Pack<In, kRun>& run) {
  if constexpr (kTakesRuns<Of, In>) {
    return element.run(run);
  } else {
    return one_by_one<Out>(element, run);
  }
}

// Runs that a thread reads before it works on the first: memory is far away.
inline constexpr int kAhead = 4;

// For every whole run i of a row of `cols` elements that is this thread's: body(i, load(i)), where
// kRuns loads go before the first body. tail(c) for the elements behind the last whole run.
template <int kRuns = kAhead, typename Load, typename Body, typename Tail>
__device__ void for_runs_of_row(int64_t cols, const Load& load, const Body& body,
                                const Tail& tail) {
  const int64_t runs = cols / kRun;
  constexpr int64_t kStep = kThreads;
  for (int64_t first = blockIdx.x * (kStep * kRuns) + threadIdx.x; first < runs;
       first += gridDim.x * (kStep * kRuns)) {
    decltype(load(int64_t{})) ahead[kRuns];
#pragma unroll
    for (int k = 0; k < kRuns; ++k) {
      const int64_t i = first + k * kStep;
      if (i < runs) ahead[k] = load(i);
    }
#pragma unroll
    for (int k = 0; k < kRuns; ++k) {
      const int64_t i = first + k * kStep;
      if (i < runs) body(i, ahead[k]);
    }
  }
  for (int64_t c = runs * kRun + blockIdx.x * kStep + threadIdx.x; c < cols;
       c += gridDim.x * kStep) {
    tail(c);
  }
}

// The load of for_runs_of_row for a row in memory.
template <typename T>
struct RunsOfRow {
  const T* row;
  bool aligned;
  __device__ Pack<T, kRun> operator()(int64_t i) const {
    return load_run<T, kRun>(row + i * kRun, aligned);
  }
};

// The grid for for_runs_of_row: rows in y.
template <int kRuns = kAhead>
dim3 grid_of_rows(int64_t rows, int64_t cols) {
  return {blocks_for((cols / kRun + kRuns) / kRuns),
          static_cast<unsigned>(std::min<int64_t>(rows, 65535))};
}

// out[r, c] = map(r)(in[r, c]). In place is allowed.
template <typename In, typename Out, typename Map>
__global__ void map_rows(const In* in, int64_t rows, int64_t cols, Out* out, bool aligned,
                         Map map) {
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const auto element = map(row);
    const In* const from = in + row * cols;
    Out* const to = out + row * cols;
    for_runs_of_row(
        cols, RunsOfRow<In>{from, aligned},
        [&](int64_t i, const Pack<In, kRun>& run) {
          store_run<Out, kRun>(apply<Out>(element, run), to + i * kRun, aligned);
        },
        [&](int64_t c) { to[c] = element(from[c]); });
  }
}

// Whether all runs of all rows can be loaded and stored at once.
template <typename In, typename Out>
bool has_aligned_rows(const In* in, const Out* out, int64_t rows, int64_t cols) {
  return is_aligned(in, alignof(Pack<In, kRun>)) && is_aligned(out, alignof(Pack<Out, kRun>)) &&
         (rows == 1 || cols % kRun == 0);
}

template <typename In, typename Out, typename Map>
void launch_map_rows(const Context& context, const In* in, int64_t rows, int64_t cols, Out* out,
                     const Map& map) {
  if (rows == 0 || cols == 0) return;
  map_rows<<<grid_of_rows(rows, cols), kThreads, 0, stream_of(context)>>>(
      in, rows, cols, out, has_aligned_rows(in, out, rows, cols), map);
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

// out[r, c] = map(r)(c / block)(in[r, c]). As map_rows; a run that lies in one block asks map once.
template <typename In, typename Out, typename Map>
__global__ void map_blocks(const In* in, int64_t rows, int64_t cols, uint32_t block, Out* out,
                           bool aligned, Map map) {
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const In* const from = in + row * cols;
    Out* const to = out + row * cols;
    const auto of_block = map(row);
    for_runs_of_row(
        cols, RunsOfRow<In>{from, aligned},
        [&](int64_t i, const Pack<In, kRun>& run) {
          const auto at = static_cast<uint32_t>(i * kRun);
          if (block % kRun == 0) {
            const auto element = of_block(at / block);
            store_run<Out, kRun>(apply<Out>(element, run), to + at, aligned);
          } else {
#pragma unroll
            for (int k = 0; k < kRun; ++k) {
              to[at + k] = of_block((at + static_cast<uint32_t>(k)) / block)(run.v[k]);
            }
          }
        },
        [&](int64_t c) { to[c] = of_block(static_cast<uint32_t>(c) / block)(from[c]); });
  }
}

template <typename In, typename Out, typename Map>
void launch_map_blocks(const Context& context, const In* in, int64_t rows, int64_t cols,
                       int64_t block, Out* out, const Map& map) {
  if (rows == 0 || cols == 0) return;
  check(cols <= INT32_MAX && block <= INT32_MAX, "a row has at most 2^31 elements");
  map_blocks<<<grid_of_rows(rows, cols), kThreads, 0, stream_of(context)>>>(
      in, rows, cols, static_cast<uint32_t>(block), out, has_aligned_rows(in, out, rows, cols),
      map);
  check_cuda(cudaGetLastError(), "map_blocks");
}

inline constexpr int kWarp = 32;

// The largest of the values of each `lanes` neighbouring threads of a warp (a power of two), in all
// of them. All threads of the warp call this.
__device__ inline uint32_t max_of_lanes(uint32_t value, int lanes) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    value = max(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  return value;
}

__device__ inline uint32_t max_of_warp(uint32_t value) {
  return max_of_lanes(value, kWarp);
}

// The threads that have a block of elements between them, a run each; 0 where they cannot.
inline int lanes_of_block(int64_t cols, int64_t block) {
  const int64_t lanes = block / kRun;
  const bool whole = block % kRun == 0 && cols % block == 0;
  return whole && lanes <= kWarp && (lanes & (lanes - 1)) == 0 ? static_cast<int>(lanes) : 0;
}

// Blocks of threads for `warps` warps; the kernel loops for those beyond.
inline unsigned blocks_for_warps(int64_t warps) {
  return blocks_for(std::min<int64_t>(warps, int64_t{1} << 40) * kWarp);
}

}  // namespace halftone::cuda
