#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/dist_metadata.h"

namespace halftone {

// A tensor that lies in blocks in several files, readable as one run of row-major bytes. Immutable;
// any number of threads may read.
class ChunkedTensor {
 public:
  // Where a block's bytes begin: `file` is for the caller's use.
  struct Block {
    std::vector<int64_t> offsets;
    std::vector<int64_t> sizes;
    size_t file = 0;
    int64_t offset = 0;
  };
  // Reads from a file, (file, offset, data, bytes).
  using ReadFile = std::function<void(size_t, int64_t, void*, int64_t)>;

  // Blocks that overlap, leave a part of the tensor out, or lie outside of it: InputErrors that
  // name `source`.
  ChunkedTensor(std::vector<int64_t> shape, DType dtype, const std::vector<Block>& blocks,
                const std::string& source);

  const std::vector<int64_t>& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  int64_t bytes() const { return bytes_; }
  // The file with the byte at `offset`; that of the first block for an empty tensor.
  size_t file_at(int64_t offset) const;
  // Bytes [begin, begin + bytes) of the whole tensor, through a buffer of bounded size.
  void read(int64_t begin, int64_t bytes, void* data, const ReadFile& read_file) const;

 private:
  // A block as lines, each a run of bytes of the tensor, one behind the other in its file.
  struct Lines {
    size_t file = 0;
    int64_t offset = 0;  // in the file
    int64_t line = 0;    // bytes of each
    int64_t count = 0;
    std::vector<int64_t> sizes;    // of the dimensions that count lines
    std::vector<int64_t> strides;  // of these, in bytes of the tensor
    int64_t first = 0;             // where the first line begins in the tensor
    int64_t end = 0;               // where the last one ends

    int64_t begin_of(int64_t index) const;
  };

  Lines lines_of(const Block& block) const;
  void check_tiling(std::vector<Block> blocks, const std::string& source) const;
  // Calls with every block that may hold bytes of [begin, end).
  template <typename Visit>
  void visit(int64_t begin, int64_t end, const Visit& visit) const;
  static void read_lines(const Lines& lines, int64_t begin, int64_t end, char* data,
                         const ReadFile& read_file);

  std::vector<int64_t> shape_;
  DType dtype_;
  int64_t bytes_ = 0;
  std::vector<int64_t> strides_;  // in bytes
  std::vector<Lines> blocks_;     // by where they begin
  std::vector<int64_t> ends_;     // the largest end of this and all blocks before
};

}  // namespace halftone
