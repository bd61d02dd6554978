#pragma once

#include <functional>

#include "export/reshard_plan.h"

namespace halftone {

// Elements [begin, end) of a tensor of the unified checkpoint, as much as a task holds at a time.
struct ReshardPiece {
  int64_t begin = 0;
  int64_t end = 0;
};

// The pieces of a tensor between which no block of its moves is cut, unless it is alone in its run.
std::vector<ReshardPiece> pieces_of(const TensorSpec& spec, const std::vector<const Move*>& moves);

// The part of a run inside a piece: `count` blocks, the first at element `from` of the tensor, that
// lie one behind the other from element `to` on in the other tensor.
struct RunPart {
  int64_t from = 0;
  int64_t stride = 0;
  int64_t to = 0;
  int64_t block = 0;
  int64_t count = 0;

  int64_t elements() const { return block * count; }
};
RunPart part_of(const ElementRun& run, const ReshardPiece& piece);

// Elements as the other layout stores them; `convert`: what Move says of floating types.
void convert_elements(const void* from, DType from_dtype, void* to, DType to_dtype, int64_t count,
                      bool plus_one);

}  // namespace halftone
