#include "export/reshard_pieces.h"

#include <algorithm>

#include "export/reshard_builder.h"
#include "kernels/check.h"
#include "kernels/numeric_types.h"

namespace halftone {
namespace {

constexpr int64_t kPieceBytes = int64_t{4} << 20;

}  // namespace

std::vector<ReshardPiece> pieces_of(const TensorSpec& spec, const std::vector<const Move*>& moves) {
  int64_t unit = 1;
  for (const Move* move : moves) {
    if (move->run.count == 1) continue;
    check(unit == 1 || unit == move->run.from_stride, "the blocks of a tensor have one distance");
    unit = move->run.from_stride;
  }
  const int64_t elements = elements_of(spec);
  const int64_t wanted = kPieceBytes / size_of(spec.dtype);
  const int64_t length = std::max(wanted / unit, int64_t{1}) * unit;
  std::vector<ReshardPiece> pieces;
  for (int64_t begin = 0; begin < elements; begin += length) {
    pieces.push_back({begin, std::min(begin + length, elements)});
  }
  return pieces;
}

RunPart part_of(const ElementRun& run, const ReshardPiece& piece) {
  if (run.count == 1) {
    const int64_t begin = std::max(piece.begin, run.from);
    const int64_t end = std::min(piece.end, run.from + run.block);
    if (begin >= end) return {};
    return {begin, 0, run.to + begin - run.from, end - begin, 1};
  }
  const auto blocks_before = [&](int64_t element) {
    const int64_t blocks = (element - run.from + run.from_stride - 1) / run.from_stride;
    return element <= run.from ? 0 : std::min(blocks, run.count);
  };
  const int64_t first = blocks_before(piece.begin);
  const int64_t count = blocks_before(piece.end) - first;
  if (count <= 0) return {};
  return {run.from + first * run.from_stride, run.from_stride, run.to + first * run.block,
          run.block, count};
}

void convert_elements(const void* from, DType from_dtype, void* to, DType to_dtype, int64_t count,
                      bool plus_one) {
  const float addend = plus_one ? 1.0f : 0.0f;
  with_element(from_dtype, [&](auto source) {
    using Source = decltype(source);
    with_element(to_dtype, [&](auto target) {
      using Target = decltype(target);
      const auto* x = static_cast<const typename Source::Storage*>(from);
      auto* y = static_cast<typename Target::Storage*>(to);
      for (int64_t i = 0; i < count; ++i) {
        const float value = Source::load(x[i]);
        // Adding 0 would turn -0 into 0.
        y[i] = Target::store(plus_one ? value + addend : value);
      }
    });
  });
}

}  // namespace halftone
