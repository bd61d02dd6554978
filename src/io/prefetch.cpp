#include "io/prefetch.h"

#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>

#include "kernels/check.h"

namespace halftone {

struct Prefetcher::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::packaged_task<void()>> tasks;
  std::deque<std::future<void>> results;  // the caller's side only
  bool stopping = false;
  std::thread thread;

  void run() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return stopping || !tasks.empty(); });
      if (stopping) return;
      {
        std::packaged_task<void()> task = std::move(tasks.front());
        tasks.pop_front();
        lock.unlock();
        task();
      }  // what the task holds is freed outside the lock
      lock.lock();
    }
  }
};

Prefetcher::Prefetcher() : state_(std::make_unique<State>()) {
  state_->thread = std::thread([state = state_.get()] { state->run(); });
}

Prefetcher::~Prefetcher() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->changed.notify_all();
  state_->thread.join();
}

void Prefetcher::post(std::function<void()> task) {
  std::packaged_task<void()> packaged(std::move(task));
  state_->results.push_back(packaged.get_future());
  {
    const std::lock_guard lock(state_->mutex);
    state_->tasks.push_back(std::move(packaged));
  }
  state_->changed.notify_one();
}

void Prefetcher::finish() {
  while (!state_->results.empty()) {
    state_->results.front().wait();
    state_->results.pop_front();
  }
}

void Prefetcher::wait() {
  check(!state_->results.empty(), "a task was posted before it is waited for");
  std::future<void> oldest = std::move(state_->results.front());
  state_->results.pop_front();
  oldest.get();
}

}  // namespace halftone
