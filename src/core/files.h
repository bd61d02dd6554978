#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "core/direct_file.h"

namespace halftone {

namespace fs = std::filesystem;

// An open file. All functions throw ReadError (reading) or ResourceError (writing) that name the
// path and the system's reason.
class File {
 public:
  File() = default;
  ~File();
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;

  static File open_for_reading(const fs::path& path);
  // Creates or truncates.
  static File create(const fs::path& path);
  static File open_for_writing(const fs::path& path);

  // Large transfers go past the page cache from now on where the file system can: weights are
  // written once and read once, and would push everything else out of memory. What the cache holds
  // already is still read from there.
  void bypass_cache();

  // Gives up the page cache's copy of what is on the disk: the next read asks the disk, or the
  // server.
  void forget_cache() const;

  const fs::path& path() const { return path_; }
  int64_t size() const;
  // Fills exactly `bytes`; a file that ends before that is an InputError.
  void read_at(int64_t offset, void* data, int64_t bytes) const;
  void write_at(int64_t offset, const void* data, int64_t bytes);
  // Reserves the blocks, so that a full disk shows before the work begins.
  void reserve(int64_t bytes);
  void sync();
  // Reports what a deferred write could not do; the destructor cannot.
  void close();

 private:
  void write_buffered(int64_t offset, const char* data, int64_t bytes);
  File(int descriptor, fs::path path) : descriptor_(descriptor), path_(std::move(path)) {}
  int descriptor_ = -1;
  DirectFile direct_;
  fs::path path_;
};

// A whole small file; one of more than `limit` bytes is an InputError.
std::string read_text_file(const fs::path& path, int64_t limit = int64_t{1} << 30);
// Temporary name, fsync, rename.
void write_text_file(const fs::path& path, std::string_view text);
// Byte for byte, with fsync.
void copy_file_synced(const fs::path& from, const fs::path& to);
// Within one file system; an existing file of the new name is replaced in one step.
void rename_path(const fs::path& from, const fs::path& to);
// With everything in it; nothing where there is none.
void remove_folder(const fs::path& folder);
// Makes renames and new names in the folder durable.
void sync_directory(const fs::path& directory);
int64_t free_bytes(const fs::path& existing);
// When a file's content was changed last, in nanoseconds.
int64_t change_time(const fs::path& path);

}  // namespace halftone
