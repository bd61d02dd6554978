#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/files.h"
#include "kernels/dtype.h"

namespace halftone {

// A zip archive that torch.save wrote, lying in the bytes [begin, begin + length) of a file. Zip
// libraries hand out contents, not where in the file they lie, and weights are read from there in
// pieces; so this reads the few structures that torch.save uses: entries that are stored as they
// are, with or without the 64-bit extension. Everything else, and whatever leads out of the range,
// is an InputError that names `source`.
class TorchArchive {
 public:
  TorchArchive(const File& file, int64_t begin, int64_t length, std::string source);

  // Where the bytes of an entry lie in the file.
  struct Range {
    int64_t offset = 0;
    int64_t bytes = 0;
  };
  // Entries by their names without the archive's own folder: "data.pkl", "data/0".
  bool has(const std::string& name) const { return entries_.contains(name); }
  Range range(const std::string& name);
  // A whole entry of at most `limit` bytes.
  std::string content(const std::string& name, int64_t limit);

 private:
  struct Entry {
    int64_t header = 0;  // of its local header, in the archive
    int64_t bytes = 0;
  };
  struct Directory {
    int64_t offset = 0;
    int64_t bytes = 0;
    int64_t entries = 0;
  };

  [[noreturn]] void fail(const std::string& text) const;
  std::string read(int64_t offset, int64_t bytes);
  Directory find_directory();
  Directory read_zip64_directory(int64_t locator);
  void read_entries(const Directory& directory);

  const File& file_;
  int64_t begin_;
  int64_t length_;
  std::string source_;
  std::map<std::string, Entry> entries_;
  // What was read last: the structures of an archive with one tensor lie close together.
  std::string window_;
  int64_t window_begin_ = 0;
};

// A tensor of a torch.save archive, as it lies in the file: row-major, without gaps.
struct SavedTensor {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  int64_t offset = 0;  // in the file
  int64_t bytes = 0;
};
// The one tensor that the archive in [begin, begin + length) holds. Another content, another byte
// order, strides that are not row-major, a dtype that safetensors lacks: InputErrors.
SavedTensor locate_saved_tensor(const File& file, int64_t begin, int64_t length,
                                const std::string& source);

}  // namespace halftone
