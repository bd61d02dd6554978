#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/files.h"
#include "core/trace.h"

namespace halftone {

// A thread that writes behind the computation. At most `limit_bytes` wait at a time (one larger
// buffer is let through alone). The first failure is rethrown by the next call.
class WriteQueue {
 public:
  explicit WriteQueue(int64_t limit_bytes, Trace* trace = nullptr);
  // Waits for the writes under way and drops those that have not begun.
  ~WriteQueue();

  // Takes over `data` and writes it at `offset`. `file` must outlive the queue.
  void write(File& file, int64_t offset, std::vector<char> data);
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
