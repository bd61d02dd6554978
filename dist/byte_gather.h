#pragma once

#include <map>
#include <optional>
#include <vector>

#include "dist/byte_plan.h"

namespace halftone {

// Brings pieces of the files of a plan together from its sources. A thread holds a few megabytes at
// a time, whatever the size of a file.
class ByteGatherer {
 public:
  static constexpr int64_t kPieceBytes = int64_t{4} << 20;

  // Opens the sources of these files.
  ByteGatherer(const BytePlan& plan, const std::vector<size_t>& files);

  int64_t pieces_of(size_t file) const;
  // The bytes of a file's piece. Thread-safe.
  void gather(size_t file, int64_t piece, std::vector<char>& bytes) const;
  // Bytes [begin, end) of a file. Thread-safe.
  void gather(size_t file, int64_t begin, int64_t end, char* bytes) const;

 private:
  struct Source {
    File file;       // around the page cache
    File scattered;  // for blocks with gaps, which other files of the group need as well
  };
  struct Range {  // of the target file
    int64_t begin = 0;
    int64_t end = 0;
  };
  void move(const ByteMove& move, const Range& range, char* bytes) const;
  void read(const ByteMove& move, int64_t begin, char* bytes, int64_t count) const;

  const BytePlan& plan_;
  std::map<size_t, Source> sources_;
  std::map<size_t, std::vector<std::vector<size_t>>> moves_;  // of each piece of a file
};

}  // namespace halftone
