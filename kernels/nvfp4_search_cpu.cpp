#include "kernels/nvfp4_search_cpu.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu_loops.h"

namespace halftone::cpu {
namespace {

// Blocks are searched many at a time, one in each lane. The lanes in use are a multiple of a
// vector's that compilers do not know, so that they vectorize the loops over them and do not
// unroll.
constexpr int kLanes = 64;
constexpr int kVector = 16;

struct Lanes {
  float v[kLanes];
};

// w[c] is column c of all lanes; dw likewise.
void subtract(int lanes, const Lanes* w, const Lanes& step, Lanes* dw) {
  for (int c = 0; c < kSearchBlock; ++c) {
    for (int l = 0; l < lanes; ++l) dw[c].v[l] = static_nvfp4_error(w[c].v[l], step.v[l]);
  }
}

void sum_of_squares(int lanes, const Lanes* dw, Lanes* error) {
  *error = {};
  for (int c = 0; c < kSearchBlock; ++c) {
    for (int l = 0; l < lanes; ++l) error->v[l] += dw[c].v[l] * dw[c].v[l];
  }
}

void quadratic_form(int lanes, const Lanes* dw, const float* hessian, Lanes* error) {
  *error = {};
  for (int i = 0; i < kSearchBlock; ++i) {
    Lanes product = {};
    for (int j = 0; j < kSearchBlock; ++j) {
      const float h = hessian[i * kSearchBlock + j];
      for (int l = 0; l < lanes; ++l) product.v[l] += h * dw[j].v[l];
    }
    for (int l = 0; l < lanes; ++l) error->v[l] += dw[i].v[l] * product.v[l];
  }
}

// base: what the candidates are multiplied by; hessian is that of these columns or null.
void search_lanes(int lanes, const Lanes* w, const Lanes* base, const Nvfp4Search* search,
                  const float* hessian, Lanes* best_amax) {
  Lanes least;
  for (int l = 0; l < lanes; ++l) {
    least.v[l] = std::numeric_limits<float>::infinity();
    best_amax->v[l] = base->v[l] * search->candidates[0];
  }
  for (int64_t i = 0; i < search->count; ++i) {
    Lanes amax;
    Lanes step;
    for (int l = 0; l < lanes; ++l) {
      amax.v[l] = base->v[l] * search->candidates[i];
      step.v[l] = static_nvfp4_step(amax.v[l], *search);
    }
    Lanes dw[kSearchBlock];
    subtract(lanes, w, step, dw);
    Lanes error;
    if (hessian != nullptr) {
      quadratic_form(lanes, dw, hessian, &error);
    } else {
      sum_of_squares(lanes, dw, &error);
    }
    for (int l = 0; l < lanes; ++l) {
      const bool better = error.v[l] < least.v[l];
      least.v[l] = better ? error.v[l] : least.v[l];
      best_amax->v[l] = better ? amax.v[l] : best_amax->v[l];
    }
  }
}

// The blocks first, first + stride, ... that the lanes of a group have.
struct Group {
  int64_t first;
  int64_t stride;
  int lanes;
};

// Of one column of blocks in neighbouring rows if there is a Hessian, which they share, else simply
// neighbours.
Group group_of(int64_t group, int64_t rows, int64_t columns, bool by_column) {
  const int64_t start = by_column ? group / columns * kLanes : group * kLanes;
  const int64_t size = by_column ? rows : rows * columns;
  const auto lanes = static_cast<int>(std::min<int64_t>(kLanes, size - start));
  return by_column ? Group{start * columns + group % columns, columns, lanes}
                   : Group{start, 1, lanes};
}

template <typename Element>
void search_group(const typename Element::Storage* w, const Group& group, int64_t columns,
                  const Nvfp4Search& search, float* best_amax) {
  Lanes values[kSearchBlock] = {};
  Lanes base = {};
  for (int l = 0; l < group.lanes; ++l) {
    const int64_t block = group.first + l * group.stride;
    base.v[l] = search.block_amax != nullptr ? search.block_amax[block] : search.global_amax;
    for (int c = 0; c < kSearchBlock; ++c) {
      values[c].v[l] = Element::load(w[block * kSearchBlock + c]);
    }
  }
  const int64_t column = group.first % columns;
  const float* const hessian =
      search.hessian != nullptr ? search.hessian + column * kSearchBlock * kSearchBlock : nullptr;
  Lanes best;
  const int lanes = (group.lanes + kVector - 1) / kVector * kVector;
  vectorized<search_lanes>(lanes, &values[0], &base, &search, hessian, &best);
  // NaN has one spelling: processors disagree on what arithmetic makes of it.
  for (int l = 0; l < group.lanes; ++l) {
    best_amax[group.first + l * group.stride] = F32Element::store(best.v[l]);
  }
}

}  // namespace

void search_nvfp4_blocks(const Context& context, const MatrixView& w_NK, const Nvfp4Search& search,
                         float* best_amax) {
  const int64_t columns = w_NK.cols / kSearchBlock;
  const bool by_column = search.hessian != nullptr;
  const int64_t groups =
      by_column ? blocks_in(w_NK.rows, kLanes) * columns : blocks_in(w_NK.rows * columns, kLanes);
  with_element(w_NK.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto* w = static_cast<const typename Element::Storage*>(w_NK.data);
    for_ranges(context, groups, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        search_group<Element>(w, group_of(i, w_NK.rows, columns, by_column), columns, search,
                              best_amax);
      }
    });
  });
}

}  // namespace halftone::cpu
