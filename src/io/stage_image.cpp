#include "io/stage_image.h"

#include <algorithm>
#include <cstring>

#include "kernels/check.h"

namespace halftone {
namespace {

constexpr int64_t kAlignment = 64;

int64_t aligned(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

int64_t StageImage::part_bytes(int parts) const {
  check(parts >= 1, "a stage image has at least one part");
  return aligned((bytes + parts - 1) / parts);
}

StageImage plan_stage_image(const Checkpoint& checkpoint, const std::vector<TensorPiece>& pieces) {
  StageImage image;
  for (const TensorPiece& piece : pieces) {
    const TensorInfo& info = checkpoint.info(piece.tensor);
    const int64_t bytes = info.bytes / piece.parts;
    std::vector<int64_t> shape = info.shape;
    if (piece.parts > 1) {
      check(!shape.empty() && shape.front() == piece.parts, "a piece is a part of its tensor");
      shape.erase(shape.begin());
    }
    image.entries.push_back({piece, info.dtype, shape, image.bytes, bytes, bytes * piece.part});
    image.bytes += aligned(bytes);
  }
  return image;
}

void read_stage_range(const Checkpoint& checkpoint, const StageImage& image, int64_t begin,
                      int64_t bytes, void* data) {
  check(begin >= 0 && bytes >= 0, "a range of a stage image is not negative");
  const int64_t end = begin + bytes;
  auto* target = static_cast<char*>(data);
  // The position up to which `data` is filled.
  int64_t filled = begin;
  const auto zero_until = [&](int64_t position) {
    if (position == filled) return;
    std::memset(target + (filled - begin), 0, static_cast<size_t>(position - filled));
    filled = position;
  };
  auto entry = std::partition_point(
      image.entries.begin(), image.entries.end(),
      [begin](const StageImage::Entry& e) { return e.begin + e.bytes <= begin; });
  for (; entry != image.entries.end() && entry->begin < end; ++entry) {
    const int64_t from = std::max(entry->begin, begin);
    const int64_t to = std::min(entry->begin + entry->bytes, end);
    if (from >= to) continue;
    zero_until(from);
    checkpoint.read(entry->piece.tensor, entry->offset + from - entry->begin, to - from,
                    target + (from - begin));
    filled = to;
  }
  zero_until(end);
}

}  // namespace halftone
