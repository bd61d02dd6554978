#pragma once

#include <functional>
#include <memory>

namespace halftone {

// Runs tasks on a thread of its own, one after the other, and hands back their results in order.
// Depth is the caller's: post the next task only when its buffer is free.
class Prefetcher {
 public:
  Prefetcher();
  ~Prefetcher();  // drops the tasks that have not begun

  void post(std::function<void()> task);
  // Waits for all tasks, whatever comes of them.
  void finish();
  // Waits for the oldest task not yet waited for and rethrows what it threw.
  void wait();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace halftone
