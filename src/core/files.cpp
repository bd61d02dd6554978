#include "core/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

// Linux moves at most 2 GiB a call.
constexpr int64_t kMaxTransfer = int64_t{1} << 30;

[[noreturn]] void fail_reading(const fs::path& path, const char* what, int error) {
  throw ReadError(concat("cannot ", what, " '", path.string(), "': ", errno_text(error)));
}

[[noreturn]] void fail_writing(const fs::path& path, const char* what, int error) {
  const char* hint = error == ENOSPC || error == EDQUOT
                         ? " (free some space or choose another --out or --workspace)"
                         : "";
  throw ResourceError(concat("cannot ", what, " '", path.string(), "': ", errno_text(error), hint));
}

int open_or_fail(const fs::path& path, int flags, const char* what) {
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
  if (descriptor < 0) {
    if ((flags & O_ACCMODE) == O_RDONLY) fail_reading(path, what, errno);
    fail_writing(path, what, errno);
  }
  return descriptor;
}

}  // namespace

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

File::File(File&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      direct_(std::move(other.direct_)),
      path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(direct_, other.direct_);
  std::swap(path_, other.path_);
  return *this;
}

File File::open_for_reading(const fs::path& path) {
  File file(open_or_fail(path, O_RDONLY, "open"), path);
  struct stat info {};
  if (::fstat(file.descriptor_, &info) != 0) fail_reading(path, "stat", errno);
  if (!S_ISREG(info.st_mode)) {
    throw InputError(concat("cannot read '", path.string(), "': it is not a regular file"));
  }
  return file;
}

File File::create(const fs::path& path) {
  return {open_or_fail(path, O_RDWR | O_CREAT | O_TRUNC, "create"), path};
}

File File::open_for_writing(const fs::path& path) {
  return {open_or_fail(path, O_RDWR, "open for writing"), path};
}

int64_t File::size() const {
  struct stat info {};
  if (::fstat(descriptor_, &info) != 0) fail_reading(path_, "stat", errno);
  return info.st_size;
}

void File::bypass_cache() {
  const int flags = ::fcntl(descriptor_, F_GETFL);
  if (flags >= 0) direct_ = DirectFile(path_.c_str(), flags & O_ACCMODE);
}

void File::forget_cache() const {
  ::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED);  // advice: a failure does no harm
}

void File::read_at(int64_t offset, void* data, int64_t bytes) const {
  auto* cursor = static_cast<char*>(data);
  const int64_t read = direct_.read(descriptor_, offset, cursor, bytes);
  cursor += read;
  offset += read;
  bytes -= read;
  while (bytes > 0) {
    const ssize_t moved = ::pread(descriptor_, cursor, std::min(bytes, kMaxTransfer), offset);
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) fail_reading(path_, "read", errno);
    if (moved == 0) {
      throw InputError(concat("'", path_.string(), "' ends at byte ", offset, ": ", bytes,
                              " more bytes were expected (a truncated copy?)"));
    }
    cursor += moved;
    offset += moved;
    bytes -= moved;
  }
}

void File::write_at(int64_t offset, const void* data, int64_t bytes) {
  const auto* cursor = static_cast<const char*>(data);
  const DirectFile::Range middle = direct_.write(offset, cursor, bytes);
  if (middle.begin < middle.end) {
    write_buffered(offset, cursor, middle.begin - offset);
    write_buffered(middle.end, cursor + (middle.end - offset), offset + bytes - middle.end);
  } else {
    write_buffered(offset, cursor, bytes);
  }
}

void File::write_buffered(int64_t offset, const char* cursor, int64_t bytes) {
  while (bytes > 0) {
    const ssize_t moved = ::pwrite(descriptor_, cursor, std::min(bytes, kMaxTransfer), offset);
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) fail_writing(path_, "write", errno);
    cursor += moved;
    offset += moved;
    bytes -= moved;
  }
}

void File::reserve(int64_t bytes) {
  if (bytes <= 0) return;
  const int error = ::posix_fallocate(descriptor_, 0, bytes);
  // Some network file systems cannot reserve; the writes themselves then tell.
  if (error == EOPNOTSUPP || error == EINVAL || error == ENOSYS) {
    if (::ftruncate(descriptor_, bytes) != 0) fail_writing(path_, "size", errno);
  } else if (error != 0) {
    fail_writing(path_, "reserve space for", error);
  }
}

void File::sync() {
  if (::fsync(descriptor_) != 0) fail_writing(path_, "sync", errno);
}

void File::close() {
  direct_ = DirectFile();
  if (descriptor_ < 0) return;
  if (::close(std::exchange(descriptor_, -1)) != 0) fail_writing(path_, "close", errno);
}

std::string read_text_file(const fs::path& path, int64_t limit) {
  const File file = File::open_for_reading(path);
  const int64_t bytes = file.size();
  if (bytes > limit) {
    throw InputError(concat("'", path.string(), "' has ", bytes, " bytes, more than the ", limit,
                            " that such a file may have"));
  }
  std::string text(static_cast<size_t>(bytes), '\0');
  file.read_at(0, text.data(), bytes);
  return text;
}

void write_text_file(const fs::path& path, std::string_view text) {
  const fs::path temporary = path.string() + ".tmp";
  File file = File::create(temporary);
  file.write_at(0, text.data(), static_cast<int64_t>(text.size()));
  file.sync();
  file.close();
  rename_path(temporary, path);
}

void rename_path(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) == 0) return;
  throw ResourceError(
      concat("cannot rename '", from.string(), "' to '", to.string(), "': ", errno_text(errno)));
}

void remove_folder(const fs::path& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) {
    throw ResourceError(concat("cannot remove '", folder.string(), "': ", error.message()));
  }
}

void copy_file_synced(const fs::path& from, const fs::path& to) {
  const File source = File::open_for_reading(from);
  File target = File::create(to);
  const int64_t bytes = source.size();
  std::vector<char> buffer(static_cast<size_t>(std::min<int64_t>(bytes, 8 << 20)));
  for (int64_t offset = 0; offset < bytes; offset += static_cast<int64_t>(buffer.size())) {
    const int64_t part = std::min<int64_t>(bytes - offset, static_cast<int64_t>(buffer.size()));
    source.read_at(offset, buffer.data(), part);
    target.write_at(offset, buffer.data(), part);
  }
  target.sync();
  target.close();
}

void sync_directory(const fs::path& directory) {
  const int descriptor = open_or_fail(directory, O_RDONLY | O_DIRECTORY, "open folder");
  const int result = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  if (result != 0 && error != EINVAL) fail_writing(directory, "sync folder", error);
}

int64_t change_time(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) fail_reading(path, "stat", errno);
  return static_cast<int64_t>(info.st_mtim.tv_sec) * 1'000'000'000 + info.st_mtim.tv_nsec;
}

int64_t free_bytes(const fs::path& existing) {
  struct statvfs info {};
  if (::statvfs(existing.c_str(), &info) != 0) fail_reading(existing, "ask free space of", errno);
  return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
}

}  // namespace halftone
