#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/checkpoint.h"

namespace halftone {

// The tensors of a stage as one run of bytes, so that ranks can share its reading evenly whatever
// the model: rank r of n reads bytes [r, r + 1) * image bytes / n and the rest is gathered.
struct StageImage {
  struct Entry {
    std::string name;
    DType dtype = DType::kF32;
    std::vector<int64_t> shape;
    int64_t begin = 0;  // multiple of 64
    int64_t bytes = 0;
  };
  std::vector<Entry> entries;
  int64_t bytes = 0;

  // Bytes of one rank's part; a multiple of 64, parts * part >= bytes.
  int64_t part_bytes(int parts) const;
};

StageImage plan_stage_image(const Checkpoint& checkpoint, const std::vector<std::string>& names);

// Reads bytes [begin, begin + bytes) of the image into `data` (padding is zeroed). Ranges that pass
// image.bytes read as zero.
void read_stage_range(const Checkpoint& checkpoint, const StageImage& image, int64_t begin,
                      int64_t bytes, void* data);

}  // namespace halftone
