#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "core/files.h"
#include "core/trace.h"

namespace halftone {

// Bytes and what keeps them where they are.
struct HeldBytes {
  const void* data = nullptr;
  int64_t bytes = 0;
  std::shared_ptr<const void> owner;
  // Where it is set there is no `data`: it brings bytes [begin, begin + count) to the host, at most
  // kPieceBytes at a time, where they stay until it is called again. The writing thread calls it.
  std::function<const void*(int64_t begin, int64_t count)> fetch = {};

  static constexpr int64_t kPieceBytes = int64_t{32} << 20;
};

// A thread that writes behind the computation. At most `limit_bytes` wait at a time (one larger
// buffer is let through alone). The first failure is rethrown by the next call.
class WriteQueue {
 public:
  explicit WriteQueue(int64_t limit_bytes, Trace* trace = nullptr);
  // Waits for the writes under way and drops those that have not begun.
  ~WriteQueue();

  // Writes `data` at `offset` and lets go of its owner. `file` must outlive the queue.
  void write(File& file, int64_t offset, HeldBytes data);
  // Returns when everything is written, or throws what failed.
  void drain();
  // Bytes written and seconds spent in write calls so far.
  int64_t bytes_written() const;
  double seconds_writing() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace halftone
