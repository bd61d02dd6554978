#include "dist/byte_gather.h"

#include <algorithm>
#include <cstring>

#include "kernels/check.h"

namespace halftone {
namespace {

// Blocks with gaps are read together with what lies between them, so much at a time.
constexpr int64_t kSpanBytes = int64_t{4} << 20;
// Blocks of this size are worth a request of their own.
constexpr int64_t kLargeBlock = int64_t{256} << 10;

const ElementChange& change_of(const ByteMove& move) {
  static const ElementChange kNone;
  return move.change ? *move.change : kNone;
}

int64_t target_block(const ByteMove& move) {
  const ElementChange& change = change_of(move);
  return move.run.block / change.from_bytes * change.to_bytes;
}

int64_t target_end(const ByteMove& move) {
  const int64_t stride = move.run.count > 1 ? move.run.to_stride : 0;
  return move.run.to + (move.run.count - 1) * stride + target_block(move);
}

// The part of one block inside a range of the target file.
struct BlockPart {
  int64_t to = 0;        // first byte in the target file
  int64_t bytes = 0;     // in it
  int64_t from = 0;      // first byte of the elements that they are made of, in the source
  int64_t elements = 0;  // whole ones
  int64_t skipped = 0;   // bytes of the first element's target that lie before `to`
};

BlockPart part_of(const ByteMove& move, int64_t index, int64_t begin, int64_t end) {
  const ElementChange& change = change_of(move);
  const int64_t block = move.run.to + (move.run.count > 1 ? index * move.run.to_stride : 0);
  const int64_t first = std::max<int64_t>(begin - block, 0);
  const int64_t last = std::min(end - block, target_block(move));
  const int64_t element = first / change.to_bytes;
  const int64_t past = (last + change.to_bytes - 1) / change.to_bytes;
  const int64_t source = move.run.from + (move.run.count > 1 ? index * move.run.from_stride : 0);
  return {block + first, last - first, source + element * change.from_bytes, past - element,
          first - element * change.to_bytes};
}

void put(const ElementChange& change, const BlockPart& part, const char* source, char* target) {
  if (!change.apply) {
    std::memcpy(target, source, static_cast<size_t>(part.bytes));
    return;
  }
  const bool whole = part.skipped == 0 && part.bytes == part.elements * change.to_bytes;
  if (whole) return change.apply(source, target, part.elements);
  std::vector<char> changed(static_cast<size_t>(part.elements * change.to_bytes));
  change.apply(source, changed.data(), part.elements);
  std::memcpy(target, changed.data() + part.skipped, static_cast<size_t>(part.bytes));
}

void fill(const ByteFill& fill, int64_t begin, int64_t end, char* bytes) {
  const auto size = static_cast<int64_t>(fill.bytes.size());
  const int64_t first = std::max(begin, fill.to);
  const int64_t last = std::min(end, fill.to + fill.count * size);
  for (int64_t at = first; at < last; ++at) {
    bytes[at - begin] = fill.bytes[static_cast<size_t>((at - fill.to) % size)];
  }
}

}  // namespace

ByteGatherer::ByteGatherer(const BytePlan& plan, const std::vector<size_t>& files) : plan_(plan) {
  for (const size_t file : files) {
    std::vector<std::vector<size_t>>& pieces = moves_[file];
    pieces.resize(static_cast<size_t>(pieces_of(file)));
    const std::vector<ByteMove>& moves = plan.files[file].moves;
    for (size_t m = 0; m < moves.size(); ++m) {
      check(target_end(moves[m]) <= plan.files[file].bytes, "a move stays inside its file");
      if (moves[m].run.count == 0 || moves[m].run.block == 0) continue;
      const auto first = static_cast<size_t>(moves[m].run.to / kPieceBytes);
      const auto last = static_cast<size_t>((target_end(moves[m]) - 1) / kPieceBytes);
      for (size_t piece = first; piece <= last; ++piece) pieces[piece].push_back(m);
      const fs::path& path = plan.sources[moves[m].source];
      Source& source = sources_[moves[m].source];
      if (source.file.path().empty()) {
        source.file = File::open_for_reading(path);
        source.file.bypass_cache();
      }
      if (moves[m].run.count > 1 && source.scattered.path().empty()) {
        source.scattered = File::open_for_reading(path);
      }
    }
  }
}

int64_t ByteGatherer::pieces_of(size_t file) const {
  return (plan_.files[file].bytes + kPieceBytes - 1) / kPieceBytes;
}

void ByteGatherer::gather(size_t file, int64_t piece, std::vector<char>& bytes) const {
  const int64_t begin = piece * kPieceBytes;
  const int64_t end = std::min(begin + kPieceBytes, plan_.files[file].bytes);
  bytes.resize(static_cast<size_t>(end - begin));
  gather(file, begin, end, bytes.data());
}

void ByteGatherer::gather(size_t file, int64_t begin, int64_t end, char* bytes) const {
  std::memset(bytes, 0, static_cast<size_t>(end - begin));
  const TargetFile& target = plan_.files[file];
  const std::vector<std::vector<size_t>>& pieces = moves_.at(file);
  for (int64_t at = begin; at < end;) {
    const int64_t piece = at / kPieceBytes;
    const Range range{at, std::min(end, (piece + 1) * kPieceBytes)};
    for (const size_t m : pieces[static_cast<size_t>(piece)]) {
      move(target.moves[m], range, bytes + (range.begin - begin));
    }
    at = range.end;
  }
  for (const ByteFill& each : target.fills) fill(each, begin, end, bytes);
}

void ByteGatherer::read(const ByteMove& move, int64_t begin, char* bytes, int64_t count) const {
  const bool gaps = move.run.count > 1 && move.run.from_stride != move.run.block;
  const Source& source = sources_.at(move.source);
  (gaps && move.run.block < kLargeBlock ? source.scattered : source.file)
      .read_at(begin, bytes, count);
}

void ByteGatherer::move(const ByteMove& move, const Range& range, char* bytes) const {
  const ElementChange& change = change_of(move);
  const ByteRun& run = move.run;
  int64_t first = 0;
  int64_t past = run.to < range.end && target_end(move) > range.begin ? 1 : 0;
  if (run.count > 1 && past > 0) {
    const int64_t before = range.begin - run.to - target_block(move);  // < 0: block 0 reaches in
    first = before < 0 ? 0 : before / run.to_stride + 1;
    past = std::min(run.count, (range.end - run.to + run.to_stride - 1) / run.to_stride);
  }
  std::vector<char> span;
  while (first < past) {
    // As many blocks as fit into one span.
    const BlockPart begin = part_of(move, first, range.begin, range.end);
    int64_t together = 1;
    if (run.count > 1 && run.block < kLargeBlock) {
      together = std::clamp<int64_t>(kSpanBytes / run.from_stride, 1, past - first);
    }
    const BlockPart last = part_of(move, first + together - 1, range.begin, range.end);
    const int64_t end = last.from + last.elements * change.from_bytes;
    if (together == 1 && !change.apply) {
      read(move, begin.from, bytes + (begin.to - range.begin), begin.bytes);
    } else {
      span.resize(static_cast<size_t>(end - begin.from));
      read(move, begin.from, span.data(), end - begin.from);
      for (int64_t i = first; i < first + together; ++i) {
        const BlockPart part = part_of(move, i, range.begin, range.end);
        if (part.bytes <= 0) continue;
        put(change, part, span.data() + (part.from - begin.from), bytes + (part.to - range.begin));
      }
    }
    first += together;
  }
}

}  // namespace halftone
