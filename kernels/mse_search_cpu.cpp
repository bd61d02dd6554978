#include "kernels/mse_search_cpu.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu_loops.h"
#include "kernels/mse_elements.h"

namespace halftone::cpu {
namespace {

// Candidates side by side: every sum keeps the order of the elements and the loop vectorizes.
constexpr int64_t kLanes = 16;

struct Lanes {
  float amax[kLanes];
  float scale[kLanes];
  float low[kLanes];
  float high[kLanes];
  double sum[kLanes];
};

template <typename Element>
void add_errors(const typename Element::Storage* x, int64_t count, Lanes* lanes) {
  double sum[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) {
    const float value = Element::load(x[i]);
    for (int64_t j = 0; j < kLanes; ++j) {
      sum[j] += squared_error(value, lanes->scale[j], lanes->low[j], lanes->high[j]);
    }
  }
  std::copy(sum, sum + kLanes, lanes->sum);
}

template <typename Element>
float best_amax(const typename Element::Storage* x, int64_t count, float bound, float amax,
                const float* multipliers, int64_t candidates) {
  float best = amax * multipliers[0];
  double smallest = std::numeric_limits<double>::infinity();
  Lanes lanes;
  for (int64_t start = 0; start < candidates; start += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) {
      // The last multiplier again in lanes that have none: a repetition never wins.
      const float multiplier = multipliers[std::min(start + j, candidates - 1)];
      const IntCandidate candidate = int_candidate(amax * multiplier, bound);
      lanes.amax[j] = candidate.amax;
      lanes.scale[j] = candidate.scale;
      lanes.low[j] = candidate.low;
      lanes.high[j] = candidate.high;
    }
    add_errors<Element>(x, count, &lanes);
    for (int64_t j = 0; j < kLanes; ++j) {
      if (comparable(lanes.sum[j]) >= smallest) continue;
      smallest = lanes.sum[j];
      best = lanes.amax[j];
    }
  }
  return best;
}

// Blocks [begin, end) of a row.
struct SearchBlocks {
  int64_t cols;
  int64_t block;
  int64_t begin;
  int64_t end;
  float bound;
  const float* amax_B;
  const float* multipliers;
  int64_t count;
};

template <typename Element>
void search(const typename Element::Storage* w, const SearchBlocks& of, float* best_amax_B) {
  for (int64_t b = of.begin; b < of.end; ++b) {
    const int64_t at = b * of.block;
    best_amax_B[b] = best_amax<Element>(w + at, std::min(of.block, of.cols - at), of.bound,
                                        of.amax_B[b], of.multipliers, of.count);
  }
}

}  // namespace

void search_int_amax(const Context& context, const MatrixView& w_NK, int bits, int64_t block,
                     const float* amax_NB, const float* multipliers, int64_t count,
                     float* best_amax_NB) {
  const float bound = bits == 8 ? 127.0f : 7.0f;
  with_element(w_NK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    for_block_pieces(context, w_NK.rows, w_NK.cols, block, [&](const BlockPiece& piece) {
      const int64_t first = piece.row * piece.blocks_of_row;
      const SearchBlocks blocks{w_NK.cols, block,           piece.begin, piece.end,
                                bound,     amax_NB + first, multipliers, count};
      vectorized<search<Element>>(w + piece.row * w_NK.cols, blocks, best_amax_NB + first);
    });
  });
}

}  // namespace halftone::cpu
