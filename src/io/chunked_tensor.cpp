#include "io/chunked_tensor.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/log.h"
#include "io/pickle_fields.h"
#include "io/safetensors.h"
#include "kernels/check.h"

namespace halftone {
namespace {

constexpr int64_t kBuffer = 1 << 20;
// Blocks of a tensor that overlap in one dimension are compared pair by pair.
constexpr int64_t kMaxComparisons = 100'000'000;

int64_t elements_of(const std::vector<int64_t>& sizes) {
  int64_t product = 1;
  for (const int64_t size : sizes) product *= size;
  return product;
}

bool overlap(const ChunkedTensor::Block& a, const ChunkedTensor::Block& b) {
  for (size_t i = 0; i < a.sizes.size(); ++i) {
    if (a.offsets[i] + a.sizes[i] <= b.offsets[i] || b.offsets[i] + b.sizes[i] <= a.offsets[i]) {
      return false;
    }
  }
  return true;
}

std::string block_text(const ChunkedTensor::Block& block) {
  return concat(shape_text(block.sizes), " at ", shape_text(block.offsets));
}

}  // namespace

ChunkedTensor::ChunkedTensor(std::vector<int64_t> shape, DType dtype,
                             const std::vector<Block>& blocks, const std::string& source)
    : shape_(std::move(shape)), dtype_(dtype), strides_(shape_.size()) {
  bytes_ = product_of(shape_, size_of(dtype), source);
  int64_t stride = size_of(dtype);
  for (size_t i = shape_.size(); i-- > 0 && bytes_ > 0;) {
    strides_[i] = stride;
    stride *= shape_[i];
  }
  std::vector<Block> full;
  for (const Block& block : blocks) {
    bool inside = block.offsets.size() == shape_.size() && block.sizes.size() == shape_.size();
    for (size_t i = 0; inside && i < shape_.size(); ++i) {
      inside = block.offsets[i] <= shape_[i] && block.sizes[i] <= shape_[i] - block.offsets[i];
    }
    if (!inside) {
      throw InputError(concat(source, ": the chunk ", block_text(block), " lies outside of ",
                              shape_text(shape_)));
    }
    if (elements_of(block.sizes) > 0) full.push_back(block);
  }
  check_tiling(full, source);
  for (const Block& block : full) blocks_.push_back(lines_of(block));
  std::sort(blocks_.begin(), blocks_.end(),
            [](const Lines& a, const Lines& b) { return a.first < b.first; });
  int64_t end = 0;
  for (const Lines& lines : blocks_) ends_.push_back(end = std::max(end, lines.end));
}

void ChunkedTensor::check_tiling(std::vector<Block> blocks, const std::string& source) const {
  const auto first_of = [&](const Block& block) {
    int64_t first = 0;
    for (size_t i = 0; i < shape_.size(); ++i) first += block.offsets[i] * strides_[i];
    return first;
  };
  const auto last_of = [&](const Block& block) {
    int64_t last = 0;
    for (size_t i = 0; i < shape_.size(); ++i) {
      last += (block.offsets[i] + block.sizes[i] - 1) * strides_[i];
    }
    return last;
  };
  std::sort(blocks.begin(), blocks.end(),
            [&](const Block& a, const Block& b) { return first_of(a) < first_of(b); });
  int64_t comparisons = 0;
  std::vector<const Block*> open;  // that may reach into what comes
  for (const Block& block : blocks) {
    std::erase_if(open, [&](const Block* other) { return last_of(*other) < first_of(block); });
    comparisons += std::ssize(open);
    if (comparisons > kMaxComparisons) {
      throw InputError(concat(source, ": ", blocks.size(), " chunks that are no grid"));
    }
    for (const Block* other : open) {
      if (!overlap(*other, block)) continue;
      throw InputError(concat(source, ": the chunks ", block_text(*other), " and ",
                              block_text(block), " overlap"));
    }
    open.push_back(&block);
  }
  // Without overlaps the sum cannot exceed the tensor's.
  int64_t covered = 0;
  for (const Block& block : blocks) covered += elements_of(block.sizes);
  if (covered != elements_of(shape_)) {
    throw InputError(concat(source, ": the chunks hold ", covered, " of the ", elements_of(shape_),
                            " elements of ", shape_text(shape_), " (a part is missing)"));
  }
}

ChunkedTensor::Lines ChunkedTensor::lines_of(const Block& block) const {
  Lines lines;
  lines.file = block.file;
  lines.offset = block.offset;
  lines.line = size_of(dtype_);
  lines.count = 1;
  // Behind the last dimension that the block does not span, all is one run.
  size_t spanned = shape_.size();
  while (spanned > 0 && block.sizes[spanned - 1] == shape_[spanned - 1]) --spanned;
  const size_t counting = spanned > 0 ? spanned - 1 : 0;
  for (size_t i = 0; i < shape_.size(); ++i) {
    lines.first += block.offsets[i] * strides_[i];
    if (i < counting) {
      lines.count *= block.sizes[i];
      lines.sizes.push_back(block.sizes[i]);
      lines.strides.push_back(strides_[i]);
    } else {
      lines.line *= block.sizes[i];
    }
  }
  lines.end = lines.begin_of(lines.count - 1) + lines.line;
  return lines;
}

int64_t ChunkedTensor::Lines::begin_of(int64_t index) const {
  int64_t begin = first;
  for (size_t i = sizes.size(); i-- > 0;) {
    begin += index % sizes[i] * strides[i];
    index /= sizes[i];
  }
  return begin;
}

template <typename Visit>
void ChunkedTensor::visit(int64_t begin, int64_t end, const Visit& visit) const {
  // The first block that, with those before it, reaches behind `begin`.
  const auto from = std::upper_bound(ends_.begin(), ends_.end(), begin);
  for (size_t i = static_cast<size_t>(from - ends_.begin()); i < blocks_.size(); ++i) {
    if (blocks_[i].first >= end) break;
    if (blocks_[i].end > begin) visit(blocks_[i]);
  }
}

size_t ChunkedTensor::file_at(int64_t offset) const {
  size_t file = blocks_.empty() ? 0 : blocks_.front().file;
  bool found = false;
  visit(offset, offset + 1, [&](const Lines& lines) {
    if (!found) file = lines.file;
    found = true;
  });
  return file;
}

void ChunkedTensor::read(int64_t begin, int64_t bytes, void* data,
                         const ReadFile& read_file) const {
  check(begin >= 0 && bytes >= 0 && begin <= bytes_ && bytes <= bytes_ - begin,
        "a read stays inside its tensor");
  if (bytes == 0) return;
  visit(begin, begin + bytes, [&](const Lines& lines) {
    read_lines(lines, begin, begin + bytes, static_cast<char*>(data), read_file);
  });
}

void ChunkedTensor::read_lines(const Lines& lines, int64_t begin, int64_t end, char* data,
                               const ReadFile& read_file) {
  // The first line that ends behind `begin`.
  int64_t index = 0;
  for (int64_t past = lines.count; index < past;) {
    const int64_t middle = index + (past - index) / 2;
    if (lines.begin_of(middle) + lines.line > begin) {
      past = middle;
    } else {
      index = middle + 1;
    }
  }
  std::vector<char> buffer;
  const int64_t most = std::max<int64_t>(1, kBuffer / lines.line);
  while (index < lines.count && lines.begin_of(index) < end) {
    const int64_t at = lines.begin_of(index);
    const int64_t from = std::max(at, begin);
    const int64_t to = std::min(at + lines.line, end);
    if (most == 1 || to == end) {
      read_file(lines.file, lines.offset + index * lines.line + (from - at), data + (from - begin),
                to - from);
      ++index;
      continue;
    }
    // Many short lines at once; what is read beyond the wanted ones is less than a buffer.
    int64_t count = 0;
    while (count < most && index + count < lines.count && lines.begin_of(index + count) < end) {
      ++count;
    }
    buffer.resize(static_cast<size_t>(count * lines.line));
    read_file(lines.file, lines.offset + index * lines.line, buffer.data(), std::ssize(buffer));
    for (int64_t i = 0; i < count; ++i) {
      const int64_t start = lines.begin_of(index + i);
      const int64_t first = std::max(start, begin);
      const int64_t last = std::min(start + lines.line, end);
      std::memcpy(data + (first - begin), buffer.data() + i * lines.line + (first - start),
                  static_cast<size_t>(last - first));
    }
    index += count;
  }
}

}  // namespace halftone
