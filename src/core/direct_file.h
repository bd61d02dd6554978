#pragma once

#include <cstdint>

namespace halftone {

// A second way into an open file, past the page cache (O_DIRECT). It moves the part of a transfer
// that lies in whole pages of the file; everything else, and everything where the file system
// refuses, is the caller's. A page is thus written through one of the two ways alone.
class DirectFile {
 public:
  struct Range {  // of the file
    int64_t begin = 0;
    int64_t end = 0;
  };

  DirectFile() = default;
  // `access`: O_RDONLY or O_RDWR. A file system without O_DIRECT makes an empty one.
  DirectFile(const char* path, int access);
  ~DirectFile();
  DirectFile(DirectFile&& other) noexcept;
  DirectFile& operator=(DirectFile&& other) noexcept;

  // Reads a prefix of the transfer and returns its length, 0 where the page cache of `cached` (a
  // descriptor of the same file) holds most of it. What is left to read is the caller's.
  int64_t read(int cached, int64_t offset, char* data, int64_t bytes) const;
  // What it wrote; empty: nothing.
  Range write(int64_t offset, const char* data, int64_t bytes) const;

 private:
  int descriptor_ = -1;
};

}  // namespace halftone
