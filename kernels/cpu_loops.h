#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/context.h"
#include "kernels/thread_pool.h"

namespace halftone::cpu {

// Elements that are worth handing to another thread.
inline constexpr int64_t kGrain = 1 << 15;

template <typename Body>
void for_ranges(const Context& context, int64_t count, int64_t grain, const Body& body) {
  if (context.pool != nullptr) {
    context.pool->for_ranges(count, grain, body);
  } else if (count > 0) {
    body(int64_t{0}, count);
  }
}

// Calls body(row, begin, end) for the pieces of rows that make up each thread's flat range, so that
// one long row is shared as well as many short ones.
template <typename Body>
void for_row_pieces(const Context& context, int64_t rows, int64_t cols, const Body& body) {
  for_ranges(context, rows * cols, kGrain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t row = begin / cols;
      const int64_t stop = std::min(end, (row + 1) * cols);
      body(row, begin, stop);
      begin = stop;
    }
  });
}

inline int64_t blocks_in(int64_t count, int64_t block) {
  return (count + block - 1) / block;
}

// Blocks [begin, end) of one row that has blocks_of_row.
struct BlockPiece {
  int64_t row;
  int64_t blocks_of_row;
  int64_t begin;
  int64_t end;
};

// for_row_pieces in whole blocks of `block` elements, of which the last of a row may be shorter.
template <typename Body>
void for_block_pieces(const Context& context, int64_t rows, int64_t cols, int64_t block,
                      const Body& body) {
  const int64_t blocks = blocks_in(cols, block);
  const int64_t grain = std::max<int64_t>(1, kGrain / block);
  for_ranges(context, rows * blocks, grain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t row = begin / blocks;
      const int64_t stop = std::min(end, (row + 1) * blocks);
      body(BlockPiece{row, blocks, begin - row * blocks, stop - row * blocks});
      begin = stop;
    }
  });
}

// The inner loops are compiled for three instruction sets and the widest that the processor has is
// taken; all are IEEE and without contraction, so the results are the same. Not under sanitizers
// (flattening their calls is slow) and not with compilers that lack the attributes.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)

template <auto Loop, typename... Args>
[[gnu::target("arch=x86-64-v4,prefer-vector-width=512"), gnu::flatten]] void run_v4(Args... args) {
  Loop(args...);
}

template <auto Loop, typename... Args>
[[gnu::target("arch=x86-64-v3"), gnu::flatten]] void run_v3(Args... args) {
  Loop(args...);
}

template <auto Loop, typename... Args>
void vectorized(Args... args) {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512cd")) {
    run_v4<Loop>(args...);
  } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
             __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma")) {
    run_v3<Loop>(args...);
  } else {
    Loop(args...);
  }
}

#else

template <auto Loop, typename... Args>
void vectorized(Args... args) {
  Loop(args...);
}

#endif

}  // namespace halftone::cpu
