#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "io/safetensors.h"

namespace halftone {

// `count` blocks of `block` elements of one tensor and where they lie in another, in elements.
// Blocks of the first are `from_stride` apart; a block never crosses a multiple of it. Those of the
// second follow each other.
struct ElementRun {
  int64_t from = 0;
  int64_t from_stride = 0;  // used when there are several blocks
  int64_t to = 0;
  int64_t block = 0;
  int64_t count = 1;

  int64_t elements() const { return block * count; }
};

// Elements of a tensor on their way between two layouts. Floating types of different width are
// converted; everything else keeps its bytes.
struct Move {
  std::string from;  // tensor of the unified checkpoint
  size_t file = 0;   // of ReshardPlan::files
  std::string to;    // tensor in it
  ElementRun run;
  bool plus_one = false;  // the target holds T(value + 1)
  bool writes = true;     // false: the bytes are there already (a scale that several share)
  bool returns = true;    // the way back reads this one
};

// Elements that no tensor of the unified checkpoint holds.
struct Fill {
  size_t file = 0;
  std::string to;
  int64_t begin = 0;
  int64_t count = 0;
  std::vector<char> element;
};

// An F32 scalar that is the largest of several over a divisor, and at least `least`.
struct Maximum {
  size_t file = 0;
  std::string to;
  std::vector<std::string> from;
  double divisor = 1.0;
  float least = 0.0f;
};

// How the files of a sharded layout are made of a unified checkpoint's tensors, and back.
struct ReshardPlan {
  struct OutputFile {
    std::string name;
    SafetensorsLayout layout;
  };
  std::vector<OutputFile> files;
  size_t group_files = 1;  // so many behind each other hold parts of the same tensors
  std::vector<Move> moves;
  std::vector<Fill> fills;  // zeros are left out: files are made of them
  std::vector<Maximum> maxima;
  // Scales of which the layout stores one for several linears: their bytes must be the same.
  std::vector<std::vector<std::string>> equal;
  // Tensors of the unified checkpoint that `moves` do not bring back as they were.
  std::vector<TensorSpec> rest;
};

}  // namespace halftone
