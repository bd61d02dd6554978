#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "io/checkpoint.h"

namespace halftone {

// A tensor of a checkpoint, or one of its equal parts along the first dimension (an expert's).
struct TensorPiece {
  std::string tensor;
  int64_t part = 0;
  int64_t parts = 1;  // 1: the whole tensor, else its first dimension

  auto operator<=>(const TensorPiece&) const = default;
};

// The tensors of a stage as one run of bytes, so that ranks can share its reading evenly whatever
// the model: rank r of n reads bytes [r, r + 1) * image bytes / n and the rest is gathered.
struct StageImage {
  struct Entry {
    TensorPiece piece;
    DType dtype = DType::kF32;
    std::vector<int64_t> shape;  // of the piece
    int64_t begin = 0;           // multiple of 64
    int64_t bytes = 0;
    int64_t offset = 0;  // of the piece in its tensor
  };
  std::vector<Entry> entries;
  int64_t bytes = 0;

  // Bytes of one rank's part; a multiple of 64, parts * part >= bytes.
  int64_t part_bytes(int parts) const;
};

StageImage plan_stage_image(const Checkpoint& checkpoint, const std::vector<TensorPiece>& pieces);

// Reads bytes [begin, begin + bytes) of the image into `data` (padding is zeroed). Ranges that pass
// image.bytes read as zero.
void read_stage_range(const Checkpoint& checkpoint, const StageImage& image, int64_t begin,
                      int64_t bytes, void* data);

}  // namespace halftone
