#include "kernels/amax_cuda.h"
#include "kernels/cuda_runs.cuh"

namespace halftone::cuda {
namespace {

struct Magnitudes {
  uint32_t largest_finite;
  uint32_t largest;
};

// Thread 0 gets the maxima of its block. Maxima of integers: the order does not matter.
__device__ Magnitudes reduce_block(Magnitudes mine) {
  __shared__ Magnitudes of_warp[kThreads / 32];
  for (int offset = 16; offset > 0; offset /= 2) {
    mine.largest_finite =
        max(mine.largest_finite, __shfl_down_sync(0xffffffffu, mine.largest_finite, offset));
    mine.largest = max(mine.largest, __shfl_down_sync(0xffffffffu, mine.largest, offset));
  }
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (const Magnitudes& other : of_warp) {
      mine.largest_finite = max(mine.largest_finite, other.largest_finite);
      mine.largest = max(mine.largest, other.largest);
    }
  }
  __syncthreads();  // of_warp is used again for the next row
  return mine;
}

template <typename Element>
__device__ void add_magnitude(typename Element::Storage value, Magnitudes& maxima) {
  const uint32_t magnitude = Element::magnitude(value);
  if (magnitude < Element::kInfinity) {
    maxima.largest_finite = max(maxima.largest_finite, magnitude);
  }
  maxima.largest = max(maxima.largest, magnitude);
}

// The largest magnitude of x[0, count), infinities and NaN included, spread over `threads` threads
// of which this one is `thread`.
template <typename Element>
__device__ uint32_t scan_all(const typename Element::Storage* x, int64_t count, int64_t thread,
                             int64_t threads, bool aligned) {
  using Storage = typename Element::Storage;
  const int64_t runs = count / kRun;
  uint32_t most = 0;
  for (int64_t i = thread; i < runs; i += threads * kAhead) {
    RunOf<Element> ahead[kAhead] = {};
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int64_t at = i + k * threads;
      if (at < runs) ahead[k] = load_run<Storage, kRun>(x + at * kRun, aligned);
    }
#pragma unroll
    for (int k = 0; k < kAhead; ++k) most = magnitudes_of(ahead[k], most);
  }
  uint32_t largest = largest_of<Element>(most);
  for (int64_t i = runs * kRun + thread; i < count; i += threads) {
    largest = max(largest, Element::magnitude(x[i]));
  }
  return largest;
}

// The same, with the largest finite one: looked for where there are others, which is hardly ever.
template <typename Element>
__device__ Magnitudes scan(const typename Element::Storage* x, int64_t count, int64_t thread,
                           int64_t threads, bool aligned) {
  const uint32_t largest = scan_all<Element>(x, count, thread, threads, aligned);
  if (largest < Element::kInfinity) return {largest, largest};
  Magnitudes result{0, 0};
  const int64_t runs = count / kRun;
  for (int64_t i = thread; i < runs; i += threads) {
    for (int k = 0; k < kRun; ++k) add_magnitude<Element>(x[i * kRun + k], result);
  }
  for (int64_t i = runs * kRun + thread; i < count; i += threads) {
    add_magnitude<Element>(x[i], result);
  }
  return result;
}

template <typename Element>
__global__ void amax_tensor(const typename Element::Storage* x, int64_t count, bool aligned,
                            Magnitudes* result) {
  const int64_t thread = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  const Magnitudes mine =
      reduce_block(scan<Element>(x, count, thread, int64_t{gridDim.x} * kThreads, aligned));
  if (threadIdx.x == 0) {
    atomicMax(&result->largest_finite, mine.largest_finite);
    atomicMax(&result->largest, mine.largest);
  }
}

template <typename Element>
__global__ void amax_scaled(const typename Element::Storage* w, const float* column_scale,
                            int64_t rows, int64_t cols, bool aligned, Magnitudes* result) {
  using Storage = typename Element::Storage;
  Magnitudes maxima{0, 0};
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const Storage* const from = w + row * cols;
    const auto single = [&](int64_t c) {
      add_magnitude<Element>(Element::store(Element::load(from[c]) * column_scale[c]), maxima);
    };
    for_runs_of_row(
        cols, RunsOfRow<Storage>{from, aligned},
        [&](int64_t i, const RunOf<Element>& run) {
          const auto scale = load_run<float, kRun>(column_scale + i * kRun, aligned);
          float x[kRun];
          floats_of<Element>(run, x);
#pragma unroll
          for (int k = 0; k < kRun; ++k) x[k] *= scale.v[k];
          const uint32_t largest = largest_magnitude<Element>(run_of<Element>(x));
          if (largest < Element::kInfinity) {
            maxima.largest_finite = max(maxima.largest_finite, largest);
          } else {
            for (int64_t c = i * kRun; c < (i + 1) * kRun; ++c) single(c);
          }
        },
        single);
  }
  maxima.largest = max(maxima.largest, maxima.largest_finite);
  const Magnitudes mine = reduce_block(maxima);
  if (threadIdx.x == 0) {
    atomicMax(&result->largest_finite, mine.largest_finite);
    atomicMax(&result->largest, mine.largest);
  }
}

template <typename Element>
__global__ void amax_rows(const typename Element::Storage* x, int64_t rows, int64_t cols,
                          bool aligned, float* amax_N) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const Magnitudes mine =
        reduce_block(scan<Element>(x + row * cols, cols, threadIdx.x, kThreads, aligned));
    if (threadIdx.x == 0) amax_N[row] = Element::of_magnitude(mine.largest_finite);
  }
}

// A warp for every block of every row.
template <typename Element>
__global__ void amax_blocks(const typename Element::Storage* x, int64_t rows, int64_t cols,
                            int64_t block, bool aligned, float* amax_NB) {
  const int64_t blocks = (cols + block - 1) / block;
  const int64_t warps = int64_t{gridDim.x} * (kThreads / kWarp);
  const unsigned lane = threadIdx.x % kWarp;
  for (int64_t i = blockIdx.x * int64_t{kThreads / kWarp} + threadIdx.x / kWarp; i < rows * blocks;
       i += warps) {
    const int64_t begin = i % blocks * block;
    const int64_t count = min(block, cols - begin);
    const Magnitudes mine =
        scan<Element>(x + i / blocks * cols + begin, count, lane, kWarp, aligned);
    const uint32_t largest = max_of_warp(mine.largest_finite);
    if (lane == 0) amax_NB[i] = Element::of_magnitude(largest);
  }
}

// As many threads as a block has runs for every block of every row.
template <typename Element>
__global__ void amax_blocks_of_runs(const typename Element::Storage* x, int64_t rows, int64_t cols,
                                    int lanes, float* amax_NB) {
  using Storage = typename Element::Storage;
  const int64_t runs = rows * (cols / kRun);
  const int log_lanes = __ffs(lanes) - 1;
  constexpr int64_t kStep = kThreads;
  for (int64_t first = blockIdx.x * (kStep * kAhead); first < runs;
       first += gridDim.x * (kStep * kAhead)) {
    RunOf<Element> ahead[kAhead] = {};
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int64_t i = first + k * kStep + threadIdx.x;
      if (i < runs) ahead[k] = load_run<Storage, kRun>(x + i * kRun, true);
    }
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int64_t i = first + k * kStep + threadIdx.x;
      uint32_t largest = largest_magnitude<Element>(ahead[k]);
      if (largest >= Element::kInfinity) {
        Magnitudes mine{0, 0};
#pragma unroll
        for (int j = 0; j < kRun; ++j) add_magnitude<Element>(ahead[k].v[j], mine);
        largest = mine.largest_finite;
      }
      largest = max_of_lanes(largest, lanes);
      if (i < runs && i % lanes == 0) amax_NB[i >> log_lanes] = Element::of_magnitude(largest);
    }
  }
}

// A block of threads for every tile.
template <typename Element>
__global__ void amax_tiles(const typename Element::Storage* x, int64_t rows, int64_t cols,
                           int64_t tile, int64_t tiles, bool aligned, float* amax) {
  const int64_t tiles_of_row = (cols + tile - 1) / tile;
  for (int64_t i = blockIdx.x; i < tiles; i += gridDim.x) {
    const int64_t top = i / tiles_of_row * tile;
    const int64_t left = i % tiles_of_row * tile;
    const int64_t height = min(tile, rows - top);
    const int64_t width = min(tile, cols - left);
    Magnitudes mine{0, 0};
    // A row is the work of as many threads as it has runs, the warp's others have the next one.
    const auto lanes = static_cast<unsigned>(min(int64_t{kWarp}, max(int64_t{1}, width / kRun)));
    const unsigned threads_of_rows = kThreads / lanes * lanes;
    if (threadIdx.x < threads_of_rows) {
      for (int64_t row = threadIdx.x / lanes; row < height; row += kThreads / lanes) {
        const Magnitudes of_row = scan<Element>(x + (top + row) * cols + left, width,
                                                threadIdx.x % lanes, lanes, aligned);
        mine.largest_finite = max(mine.largest_finite, of_row.largest_finite);
      }
    }
    mine = reduce_block(mine);
    if (threadIdx.x == 0) amax[i] = Element::of_magnitude(mine.largest_finite);
  }
}

// A thread for a column of some of the rows. amax_K starts as zeros and is raised as integers,
// whose order is that of the numbers.
template <typename Element>
__device__ void raise_column(const typename Element::Storage* x, int64_t rows, int64_t cols,
                             int64_t c, uint32_t* amax_K) {
  Magnitudes maxima{0, 0};
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    add_magnitude<Element>(x[row * cols + c], maxima);
  }
  atomicMax(&amax_K[c], bits_of(Element::of_magnitude(maxima.largest_finite)));
}

template <typename Element>
__global__ void amax_columns(const typename Element::Storage* x, int64_t rows, int64_t cols,
                             uint32_t* amax_K) {
  for (int64_t c = blockIdx.x * int64_t{kThreads} + threadIdx.x; c < cols;
       c += int64_t{gridDim.x} * kThreads) {
    raise_column<Element>(x, rows, cols, c, amax_K);
  }
}

// The same by runs of columns.
template <typename Element>
__global__ void amax_columns_of_runs(const typename Element::Storage* x, int64_t rows, int64_t cols,
                                     uint32_t* amax_K) {
  using Storage = typename Element::Storage;
  constexpr int kWords = sizeof(RunOf<Element>) / sizeof(uint32_t);
  constexpr uint32_t kPair = sizeof(Storage) == 2 ? 0x7fff7fffu : 0x7fffffffu;
  for (int64_t run = blockIdx.x * int64_t{kThreads} + threadIdx.x; run < cols / kRun;
       run += int64_t{gridDim.x} * kThreads) {
    uint32_t most[kWords] = {};
#pragma unroll 4
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
      const auto loaded = load_run<Storage, kRun>(x + row * cols + run * kRun, true);
      uint32_t words[kWords];
      memcpy(words, &loaded, sizeof(loaded));
#pragma unroll
      for (int i = 0; i < kWords; ++i) {
        const uint32_t magnitudes = words[i] & kPair;
        most[i] = sizeof(Storage) == 2 ? __vmaxu2(most[i], magnitudes) : max(most[i], magnitudes);
      }
    }
    for (int k = 0; k < kRun; ++k) {
      const uint32_t word = most[k * sizeof(Storage) / sizeof(uint32_t)];
      const uint32_t magnitude = sizeof(Storage) == 4 ? word : (word >> (16 * (k % 2))) & 0xffffu;
      if (magnitude < Element::kInfinity) {
        atomicMax(&amax_K[run * kRun + k], bits_of(Element::of_magnitude(magnitude)));
      } else {
        raise_column<Element>(x, rows, cols, run * kRun + k, amax_K);
      }
    }
  }
}

// Whether every piece of `block` elements of every row starts where a run can be loaded at once.
template <typename Element>
bool has_aligned_runs(const MatrixView& w_NK, int64_t block) {
  return is_aligned(w_NK.data, alignof(Pack<typename Element::Storage, kRun>)) &&
         w_NK.cols % kRun == 0 && block % kRun == 0;
}

// Memory in the order of the stream.
class StreamScratch {
 public:
  explicit StreamScratch(cudaStream_t stream) : stream_(stream) {
    check_cuda(cudaMallocAsync(&data_, sizeof(Magnitudes), stream), "cudaMallocAsync");
  }
  ~StreamScratch() { cudaFreeAsync(data_, stream_); }
  StreamScratch(const StreamScratch&) = delete;
  StreamScratch& operator=(const StreamScratch&) = delete;
  Magnitudes* get() const { return static_cast<Magnitudes*>(data_); }

 private:
  cudaStream_t stream_;
  void* data_ = nullptr;
};

// Runs fill(result, stream), which raises *result, and waits for what it found.
template <typename Element, typename Fill>
void find_maxima(const Context& context, const Fill& fill, float* value, bool* finite) {
  const cudaStream_t stream = stream_of(context);
  const StreamScratch scratch(stream);
  check_cuda(cudaMemsetAsync(scratch.get(), 0, sizeof(Magnitudes), stream), "cudaMemsetAsync");
  fill(scratch.get(), stream);
  check_cuda(cudaGetLastError(), "amax");
  Magnitudes result;
  check_cuda(
      cudaMemcpyAsync(&result, scratch.get(), sizeof(result), cudaMemcpyDeviceToHost, stream),
      "cudaMemcpyAsync");
  check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  *value = Element::of_magnitude(result.largest_finite);
  *finite = result.largest < Element::kInfinity;
}

}  // namespace

void amax_of_tensor(const Context& context, const MatrixView& x_NK, float* value, bool* finite) {
  *value = 0.0f;
  *finite = true;
  if (x_NK.count() == 0) return;
  with_element(x_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    using Storage = typename Element::Storage;
    const auto* x = static_cast<const Storage*>(x_NK.data);
    const auto fill = [&](Magnitudes* result, cudaStream_t stream) {
      // Then a block has several runs, and few meet in atomics.
      constexpr unsigned kMostBlocks = 2048;
      const unsigned blocks = std::min(kMostBlocks, blocks_for(x_NK.count() / (kRun * kAhead) + 1));
      amax_tensor<Element><<<blocks, kThreads, 0, stream>>>(
          x, x_NK.count(), is_aligned(x, alignof(Pack<Storage, kRun>)), result);
    };
    find_maxima<Element>(context, fill, value, finite);
  });
}

void amax_of_scaled(const Context& context, const MatrixView& w_NK, const float* column_scale_K,
                    float* value, bool* finite) {
  *value = 0.0f;
  *finite = true;
  if (w_NK.count() == 0) return;
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto fill = [&](Magnitudes* result, cudaStream_t stream) {
      const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
      const bool aligned = has_aligned_rows(w, column_scale_K, w_NK.rows, w_NK.cols);
      constexpr unsigned kMostBlocks = 2048;
      dim3 grid = grid_of_rows(w_NK.rows, w_NK.cols);
      grid.y = std::max(1u, std::min(grid.y, kMostBlocks / grid.x));
      amax_scaled<Element>
          <<<grid, kThreads, 0, stream>>>(w, column_scale_K, w_NK.rows, w_NK.cols, aligned, result);
    };
    find_maxima<Element>(context, fill, value, finite);
  });
}

void amax_of_rows(const Context& context, const MatrixView& x_NK, float* amax_N) {
  if (x_NK.rows == 0) return;
  with_element(x_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    using Storage = typename Element::Storage;
    const auto* x = static_cast<const Storage*>(x_NK.data);
    const bool aligned = is_aligned(x, alignof(Pack<Storage, kRun>)) && x_NK.cols % kRun == 0;
    const auto blocks = static_cast<unsigned>(std::min<int64_t>(x_NK.rows, 1 << 20));
    amax_rows<Element>
        <<<blocks, kThreads, 0, stream_of(context)>>>(x, x_NK.rows, x_NK.cols, aligned, amax_N);
  });
  check_cuda(cudaGetLastError(), "amax_of_rows");
}

void amax_of_blocks(const Context& context, const MatrixView& w_NK, int64_t block, float* amax_NB) {
  if (w_NK.count() == 0) return;
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    const int lanes = lanes_of_block(w_NK.cols, block);
    if (lanes != 0 && has_aligned_runs<Element>(w_NK, block)) {
      const dim3 grid = grid_of_rows(1, w_NK.count());
      amax_blocks_of_runs<Element>
          <<<grid, kThreads, 0, stream_of(context)>>>(w, w_NK.rows, w_NK.cols, lanes, amax_NB);
      return;
    }
    const int64_t warps = w_NK.rows * ((w_NK.cols + block - 1) / block);
    amax_blocks<Element><<<blocks_for_warps(warps), kThreads, 0, stream_of(context)>>>(
        w, w_NK.rows, w_NK.cols, block, has_aligned_runs<Element>(w_NK, block), amax_NB);
  });
  check_cuda(cudaGetLastError(), "amax_of_blocks");
}

void amax_of_tiles(const Context& context, const MatrixView& w_NK, int64_t tile, float* amax) {
  if (w_NK.count() == 0) return;
  const int64_t tiles = ((w_NK.rows + tile - 1) / tile) * ((w_NK.cols + tile - 1) / tile);
  with_element(w_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    const auto blocks = static_cast<unsigned>(std::min<int64_t>(tiles, 1 << 20));
    amax_tiles<Element><<<blocks, kThreads, 0, stream_of(context)>>>(
        w, w_NK.rows, w_NK.cols, tile, tiles, has_aligned_runs<Element>(w_NK, tile), amax);
  });
  check_cuda(cudaGetLastError(), "amax_of_tiles");
}

void amax_of_columns(const Context& context, const MatrixView& x_TK, float* amax_K) {
  if (x_TK.cols == 0) return;
  const cudaStream_t stream = stream_of(context);
  check_cuda(cudaMemsetAsync(amax_K, 0, static_cast<size_t>(x_TK.cols) * sizeof(float), stream),
             "cudaMemsetAsync");
  if (x_TK.rows == 0) return;
  with_element(x_TK.dtype, [&](auto type) {
    using Element = decltype(type);
    const auto* x = static_cast<const typename Element::Storage*>(x_TK.data);
    constexpr int64_t kRowsOfThread = 64;
    const int64_t pieces = (x_TK.rows + kRowsOfThread - 1) / kRowsOfThread;
    const auto down = static_cast<unsigned>(std::min<int64_t>(pieces, 65535));
    auto* const amax = reinterpret_cast<uint32_t*>(amax_K);
    if (has_aligned_runs<Element>(x_TK, kRun)) {
      amax_columns_of_runs<Element>
          <<<dim3(blocks_for(x_TK.cols / kRun), down), kThreads, 0, stream>>>(x, x_TK.rows,
                                                                              x_TK.cols, amax);
    } else {
      amax_columns<Element><<<dim3(blocks_for(x_TK.cols), down), kThreads, 0, stream>>>(
          x, x_TK.rows, x_TK.cols, amax);
    }
  });
  check_cuda(cudaGetLastError(), "amax_of_columns");
}

}  // namespace halftone::cuda
