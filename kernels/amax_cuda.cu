#include "kernels/amax_cuda.h"
#include "kernels/cuda_loops.cuh"

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

// The maxima of x[0, count), spread over `threads` threads of which this one is `thread`.
template <typename Element>
__device__ Magnitudes scan(const typename Element::Storage* x, int64_t count, int64_t thread,
                           int64_t threads, bool aligned) {
  Magnitudes result{0, 0};
  const auto add = [&result](typename Element::Storage value) {
    const uint32_t magnitude = Element::magnitude(value);
    if (magnitude < Element::kInfinity) {
      result.largest_finite = max(result.largest_finite, magnitude);
    }
    result.largest = max(result.largest, magnitude);
  };
  const int64_t runs = count / kRun;
  for (int64_t i = thread; i < runs; i += threads) {
    const auto run = load_run<typename Element::Storage, kRun>(x + i * kRun, aligned);
    for (int k = 0; k < kRun; ++k) add(run.v[k]);
  }
  for (int64_t i = runs * kRun + thread; i < count; i += threads) add(x[i]);
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
__global__ void amax_rows(const typename Element::Storage* x, int64_t rows, int64_t cols,
                          bool aligned, float* amax_N) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const Magnitudes mine =
        reduce_block(scan<Element>(x + row * cols, cols, threadIdx.x, kThreads, aligned));
    if (threadIdx.x == 0) amax_N[row] = Element::of_magnitude(mine.largest_finite);
  }
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

}  // namespace

void amax_of_tensor(const Context& context, const MatrixView& x_NK, float* value, bool* finite) {
  *value = 0.0f;
  *finite = true;
  if (x_NK.count() == 0) return;
  const cudaStream_t stream = stream_of(context);
  const StreamScratch scratch(stream);
  check_cuda(cudaMemsetAsync(scratch.get(), 0, sizeof(Magnitudes), stream), "cudaMemsetAsync");
  with_element(x_NK.dtype, [&](auto type) {
    using Element = decltype(type);
    using Storage = typename Element::Storage;
    const auto* x = static_cast<const Storage*>(x_NK.data);
    constexpr unsigned kMostBlocks =
        2048;  // then a block has several runs, and few meet in atomics
    const unsigned blocks = std::min(kMostBlocks, blocks_for(x_NK.count() / kRun + 1));
    amax_tensor<Element><<<blocks, kThreads, 0, stream>>>(
        x, x_NK.count(), is_aligned(x, alignof(Pack<Storage, kRun>)), scratch.get());
    check_cuda(cudaGetLastError(), "amax_of_tensor");
    Magnitudes result;
    check_cuda(
        cudaMemcpyAsync(&result, scratch.get(), sizeof(result), cudaMemcpyDeviceToHost, stream),
        "cudaMemcpyAsync");
    check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    *value = Element::of_magnitude(result.largest_finite);
    *finite = result.largest < Element::kInfinity;
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

}  // namespace halftone::cuda
