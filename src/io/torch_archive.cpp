#include "io/torch_archive.h"

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "io/shown_name.h"

namespace halftone {
namespace {

constexpr int64_t kEndBytes = 22;      // the record at the end, without a comment
constexpr int64_t kLocatorBytes = 20;  // of the 64-bit end record
constexpr int64_t kEnd64Bytes = 56;
constexpr int64_t kCentralBytes = 46;
constexpr int64_t kLocalBytes = 30;
constexpr int64_t kWindow = 4096;
constexpr int64_t kMaxDirectory = 64 << 20;
constexpr uint64_t kFull32 = 0xffffffff;
constexpr uint64_t kFull16 = 0xffff;

uint64_t word(std::string_view data, int64_t at, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) {
    value |= uint64_t{static_cast<uint8_t>(data[static_cast<size_t>(at + i)])} << (8 * i);
  }
  return value;
}

bool begins_with(std::string_view data, int64_t at, std::string_view signature) {
  return data.substr(static_cast<size_t>(at), signature.size()) == signature;
}

}  // namespace

TorchArchive::TorchArchive(const File& file, int64_t begin, int64_t length, std::string source)
    : file_(file), begin_(begin), length_(length), source_(std::move(source)) {
  if (length < kEndBytes) fail(concat(length, " bytes are no archive of torch.save"));
  read_entries(find_directory());
}

void TorchArchive::fail(const std::string& text) const {
  throw InputError(concat(source_, ": ", text));
}

std::string TorchArchive::read(int64_t offset, int64_t bytes) {
  if (offset < 0 || bytes < 0 || offset > length_ || bytes > length_ - offset) {
    fail(concat("the archive leads to byte ", offset, ", but has ", length_,
                " bytes (a truncated or damaged copy?)"));
  }
  const int64_t window_end = window_begin_ + std::ssize(window_);
  if (offset < window_begin_ || offset + bytes > window_end) {
    window_.resize(static_cast<size_t>(std::min(std::max(bytes, kWindow), length_ - offset)));
    file_.read_at(begin_ + offset, window_.data(), std::ssize(window_));
    window_begin_ = offset;
  }
  return window_.substr(static_cast<size_t>(offset - window_begin_), static_cast<size_t>(bytes));
}

TorchArchive::Directory TorchArchive::find_directory() {
  const int64_t tail = std::min(length_, kWindow);
  const std::string data = read(length_ - tail, tail);
  // torch.save leaves no comment behind the record.
  const int64_t end = tail - kEndBytes;
  if (!begins_with(data, end, std::string_view("PK\x05\x06", 4))) {
    fail(
        "no archive of torch.save (a zip file) ends here: a truncated or damaged copy, or another "
        "serialization format, which is not read");
  }
  const Directory plain{static_cast<int64_t>(word(data, end + 16, 4)),
                        static_cast<int64_t>(word(data, end + 12, 4)),
                        static_cast<int64_t>(word(data, end + 10, 2))};
  const bool overflows = word(data, end + 16, 4) == kFull32 || word(data, end + 12, 4) == kFull32 ||
                         word(data, end + 10, 2) == kFull16;
  return overflows ? read_zip64_directory(length_ - kEndBytes - kLocatorBytes) : plain;
}

TorchArchive::Directory TorchArchive::read_zip64_directory(int64_t locator) {
  const std::string found = read(locator, kLocatorBytes);
  if (!begins_with(found, 0, std::string_view("PK\x06\x07", 4))) {
    fail("the archive lacks its 64-bit end record");
  }
  const std::string record = read(static_cast<int64_t>(word(found, 8, 8)), kEnd64Bytes);
  if (!begins_with(record, 0, std::string_view("PK\x06\x06", 4))) {
    fail("the archive lacks its 64-bit end record");
  }
  return {static_cast<int64_t>(word(record, 48, 8)), static_cast<int64_t>(word(record, 40, 8)),
          static_cast<int64_t>(word(record, 32, 8))};
}

void TorchArchive::read_entries(const Directory& directory) {
  if (directory.bytes < 0 || directory.bytes > kMaxDirectory) {
    fail(concat("a directory of ", directory.bytes, " bytes; at most ", kMaxDirectory));
  }
  const std::string data = read(directory.offset, directory.bytes);
  int64_t at = 0;
  for (int64_t i = 0; i < directory.entries; ++i) {
    if (std::ssize(data) - at < kCentralBytes ||
        !begins_with(data, at, std::string_view("PK\x01\x02", 4))) {
      fail(concat("entry ", i, " of ", directory.entries, " is damaged"));
    }
    const auto name_bytes = static_cast<int64_t>(word(data, at + 28, 2));
    const auto extra_bytes = static_cast<int64_t>(word(data, at + 30, 2));
    const auto comment_bytes = static_cast<int64_t>(word(data, at + 32, 2));
    const int64_t next = at + kCentralBytes + name_bytes + extra_bytes + comment_bytes;
    if (next > std::ssize(data)) fail(concat("entry ", i, " leads out of the directory"));
    const std::string name =
        data.substr(static_cast<size_t>(at + kCentralBytes), static_cast<size_t>(name_bytes));
    if (word(data, at + 10, 2) != 0 || (word(data, at + 8, 2) & 1) != 0) {
      fail(concat(shown_name(name), " is compressed or encrypted; torch.save stores as it is"));
    }
    uint64_t stored = word(data, at + 20, 4);
    uint64_t bytes = word(data, at + 24, 4);
    uint64_t header = word(data, at + 42, 4);
    // The 64-bit values of those that are full, in this order.
    int64_t extra = at + kCentralBytes + name_bytes;
    const int64_t extra_end = extra + extra_bytes;
    while (extra_end - extra >= 4) {
      const uint64_t kind = word(data, extra, 2);
      const auto size = static_cast<int64_t>(word(data, extra + 2, 2));
      if (size > extra_end - extra - 4) break;
      int64_t field = extra + 4;
      for (uint64_t* value : {&bytes, &stored, &header}) {
        if (kind != 1 || *value != kFull32 || field + 8 > extra + 4 + size) continue;
        *value = word(data, field, 8);
        field += 8;
      }
      extra += 4 + size;
    }
    if (stored != bytes) fail(concat(shown_name(name), " is compressed"));
    if (bytes > static_cast<uint64_t>(length_) || header > static_cast<uint64_t>(length_)) {
      fail(concat(shown_name(name), " leads out of the archive's ", length_, " bytes"));
    }
    const size_t slash = name.find('/');
    if (slash != name.npos) {
      const Entry entry{static_cast<int64_t>(header), static_cast<int64_t>(bytes)};
      if (!entries_.emplace(name.substr(slash + 1), entry).second) {
        fail(concat("two entries ", shown_name(name)));
      }
    }
    at = next;
  }
}

TorchArchive::Range TorchArchive::range(const std::string& name) {
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail(concat("the archive lacks ", shown_name(name)));
  const Entry& entry = found->second;
  const std::string header = read(entry.header, kLocalBytes);
  if (!begins_with(header, 0, "PK\x03\x04")) {
    fail(concat(shown_name(name), " is not where the archive's directory says"));
  }
  const int64_t offset = entry.header + kLocalBytes + static_cast<int64_t>(word(header, 26, 2)) +
                         static_cast<int64_t>(word(header, 28, 2));
  if (offset > length_ || entry.bytes > length_ - offset) {
    fail(concat(shown_name(name), " has ", entry.bytes, " bytes at ", offset,
                ", beyond the archive's ", length_));
  }
  return {begin_ + offset, entry.bytes};
}

std::string TorchArchive::content(const std::string& name, int64_t limit) {
  const Range found = range(name);
  if (found.bytes > limit) {
    fail(concat(shown_name(name), " has ", found.bytes, " bytes; at most ", limit));
  }
  return read(found.offset - begin_, found.bytes);
}

}  // namespace halftone
