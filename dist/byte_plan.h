#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/files.h"

namespace halftone {

// `count` blocks of one file and where they lie in another; everything in bytes. The strides are
// used when there are several blocks.
struct ByteRun {
  int64_t from = 0;
  int64_t from_stride = 0;
  int64_t to = 0;
  int64_t to_stride = 0;
  int64_t block = 0;  // in the source
  int64_t count = 1;
};

// What happens to elements on their way. apply() may be called by several threads.
struct ElementChange {
  int64_t from_bytes = 1;  // of an element
  int64_t to_bytes = 1;
  std::function<void(const void* from, void* to, int64_t elements)> apply;
};

struct ByteMove {
  size_t source = 0;  // of BytePlan::sources
  ByteRun run;
  std::shared_ptr<const ElementChange> change;  // null: the bytes stay as they are
};

// The same few bytes over and over.
struct ByteFill {
  int64_t to = 0;
  std::string bytes;
  int64_t count = 1;
};

// A file and what it is made of. No byte of it comes from two places; one that comes from none is
// zero.
struct TargetFile {
  std::string name;  // below the folder that the files are written to
  int64_t bytes = 0;
  // Files of one group take their bytes from the same places: a rank writes them side by side.
  size_t group = 0;
  std::vector<ByteMove> moves;
  std::vector<ByteFill> fills;
};

// How files are made of the byte ranges of others.
struct BytePlan {
  std::vector<fs::path> sources;
  std::vector<TargetFile> files;  // in the order in which they are dealt to hosts and their ranks
};

// SHA-256 of what the plan does with sources that are called and sized as they are now, and when
// they were changed last.
std::string fingerprint_of(const BytePlan& plan);

}  // namespace halftone
