#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace halftone {

// A fixed set of worker threads. The results of everything run on it must not depend on their
// number.
class ThreadPool {
 public:
  // `threads` >= 1 counts the caller: a pool of one thread runs everything in place. `on_start`
  // runs once in every worker (LibTorch keeps its intra-op thread count per thread).
  explicit ThreadPool(int threads, const std::function<void()>& on_start = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Calls body(i) for i in [0, count), in any order and concurrently; returns when all are done and
  // rethrows the exception of the smallest i that threw. A call from inside a worker runs in place.
  void for_each(int64_t count, const std::function<void(int64_t)>& body);

  // Splits [0, count) into runs of at least `grain` and calls body(begin, end) for each.
  void for_ranges(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace halftone
