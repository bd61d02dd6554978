#include "core/direct_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace halftone {
namespace {

constexpr int64_t kPage = 4096;
// Smaller transfers are not worth it.
constexpr int64_t kSmallest = 64 * kPage;
constexpr int64_t kBounce = int64_t{4} << 20;

// O_DIRECT takes aligned memory. One buffer a thread, so that it stays in the caches.
char* bounce_buffer() {
  thread_local std::vector<char> buffer(static_cast<size_t>(kBounce + kPage));
  void* begin = buffer.data();
  size_t space = buffer.size();
  return static_cast<char*>(std::align(kPage, kBounce, begin, space));
}

int64_t round_down(int64_t value) {
  return value / kPage * kPage;
}

// Most of the range is in the page cache.
bool is_cached(int descriptor, int64_t offset, int64_t bytes) {
  const int64_t begin = round_down(offset);
  const auto length = static_cast<size_t>(offset + bytes - begin);
  void* const map = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, descriptor, begin);
  if (map == MAP_FAILED) return true;
  std::vector<unsigned char> pages((length + kPage - 1) / kPage);
  const bool known = ::mincore(map, length, pages.data()) == 0;
  ::munmap(map, length);
  const auto resident =
      std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; });
  return !known || 2 * resident > static_cast<int64_t>(pages.size());
}

}  // namespace

DirectFile::DirectFile(const char* path, int access)
    : descriptor_(::open(path, access | O_DIRECT | O_CLOEXEC)) {}

DirectFile::~DirectFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

DirectFile::DirectFile(DirectFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

DirectFile& DirectFile::operator=(DirectFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

int64_t DirectFile::read(int cached, int64_t offset, char* data, int64_t bytes) const {
  if (descriptor_ < 0 || bytes < kSmallest) return 0;
  char* const bounce = bounce_buffer();
  int64_t done = 0;
  while (done < bytes) {
    const int64_t begin = round_down(offset + done);
    const int64_t skipped = offset + done - begin;
    const int64_t wanted = std::min(kBounce - skipped, bytes - done);
    // The pages around the ends are read whole: reading may.
    const int64_t pages = (skipped + wanted + kPage - 1) / kPage * kPage;
    if (is_cached(cached, offset + done, wanted)) break;
    const ssize_t moved = ::pread(descriptor_, bounce, static_cast<size_t>(pages), begin);
    if (moved < 0 && errno == EINTR) continue;
    const int64_t useful = std::min<int64_t>(moved - skipped, wanted);
    if (useful <= 0) break;  // refused, failed or at the end: the ordinary way tells which
    std::memcpy(data + done, bounce + skipped, static_cast<size_t>(useful));
    done += useful;
  }
  return done;
}

DirectFile::Range DirectFile::write(int64_t offset, const char* data, int64_t bytes) const {
  const int64_t begin = round_down(offset + kPage - 1);
  const int64_t end = round_down(offset + bytes);
  if (descriptor_ < 0 || end - begin < kSmallest) return {};
  char* const bounce = bounce_buffer();
  int64_t at = begin;
  while (at < end) {
    const int64_t wanted = std::min(kBounce, end - at);
    std::memcpy(bounce, data + (at - offset), static_cast<size_t>(wanted));
    const ssize_t moved = ::pwrite(descriptor_, bounce, static_cast<size_t>(wanted), at);
    if (moved < 0 && errno == EINTR) continue;
    if (moved != wanted) break;  // refused or no space: the ordinary way tells which
    at += moved;
  }
  return {begin, at};
}

}  // namespace halftone
