#pragma once

#include <cstdint>
#include <string>

#include "core/files.h"

namespace halftone {

// Reads a file line by line, so that only what is needed of a large one is read.
class LineReader {
 public:
  explicit LineReader(const fs::path& path);

  // The next line without its "\n" or "\r\n"; false at the end of the file.
  bool next(std::string& line);
  int64_t number() const { return number_; }  // of the line that next() gave, from 1

 private:
  bool fill();

  File file_;
  int64_t size_ = 0;
  int64_t offset_ = 0;  // of the first byte that is not in buffer_ yet
  std::string buffer_;
  size_t at_ = 0;
  int64_t number_ = 0;
};

}  // namespace halftone
