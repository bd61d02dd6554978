#include "text/lines.h"

#include <algorithm>

namespace halftone {
namespace {

constexpr int64_t kChunk = int64_t{1} << 20;

}  // namespace

LineReader::LineReader(const fs::path& path)
    : file_(File::open_for_reading(path)), size_(file_.size()) {}

bool LineReader::fill() {
  const int64_t bytes = std::min(kChunk, size_ - offset_);
  buffer_.resize(static_cast<size_t>(bytes));
  at_ = 0;
  if (bytes == 0) return false;
  file_.read_at(offset_, buffer_.data(), bytes);
  offset_ += bytes;
  return true;
}

bool LineReader::next(std::string& line) {
  line.clear();
  if (at_ == buffer_.size() && !fill()) return false;
  ++number_;
  for (;;) {
    const size_t end = buffer_.find('\n', at_);
    line.append(buffer_, at_, end == std::string::npos ? end : end - at_);
    at_ = end == std::string::npos ? buffer_.size() : end + 1;
    if (end != std::string::npos || !fill()) break;
  }
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return true;
}

}  // namespace halftone
