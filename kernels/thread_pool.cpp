#include "kernels/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/check.h"

namespace halftone {
namespace {

// One call of for_each: its indices are handed out one by one, and it keeps the exception of the
// smallest index, so that what the caller sees does not depend on the schedule.
class Job {
 public:
  Job(int64_t count, const std::function<void(int64_t)>& body) : count_(count), body_(body) {}

  void run() {
    for (int64_t i = next_++; i < count_; i = next_++) {
      try {
        body_(i);
      } catch (...) {
        const std::scoped_lock lock(mutex_);
        if (i < failed_) {
          failed_ = i;
          exception_ = std::current_exception();
        }
      }
    }
  }

  void rethrow() const {
    if (exception_) std::rethrow_exception(exception_);
  }

 private:
  const int64_t count_;
  const std::function<void(int64_t)>& body_;
  std::atomic<int64_t> next_{0};
  std::mutex mutex_;
  int64_t failed_ = std::numeric_limits<int64_t>::max();
  std::exception_ptr exception_;
};

}  // namespace

struct ThreadPool::State {
  std::mutex calls;  // one call at a time; others wait for it
  std::atomic<std::thread::id> caller{};

  std::mutex mutex;
  std::condition_variable work;
  std::condition_variable done;
  Job* job = nullptr;
  uint64_t generation = 0;
  int busy = 0;
  bool stopping = false;

  std::vector<std::thread> workers;

  void serve(const std::function<void()>& on_start) {
    if (on_start) on_start();
    uint64_t seen = 0;
    std::unique_lock lock(mutex);
    while (true) {
      work.wait(lock, [&] { return stopping || generation != seen; });
      if (stopping) return;
      seen = generation;
      Job* const mine = job;
      lock.unlock();
      mine->run();
      lock.lock();
      if (--busy == 0) done.notify_one();
    }
  }

  void run(Job& current) {
    const std::scoped_lock call(calls);
    caller = std::this_thread::get_id();
    {
      const std::scoped_lock lock(mutex);
      job = &current;
      busy = static_cast<int>(workers.size());
      ++generation;
    }
    work.notify_all();
    current.run();
    std::unique_lock lock(mutex);
    done.wait(lock, [&] { return busy == 0; });
    job = nullptr;
    caller = std::thread::id{};
  }

  // True inside a body that this pool runs: another call must not wait for the one it is part of.
  bool inside() const {
    const std::thread::id self = std::this_thread::get_id();
    return caller == self || std::any_of(workers.begin(), workers.end(), [&](const auto& worker) {
             return worker.get_id() == self;
           });
  }
};

ThreadPool::ThreadPool(int threads, const std::function<void()>& on_start)
    : state_(std::make_unique<State>()) {
  check(threads >= 1, "a ThreadPool needs at least one thread");
  // The workers read the list of workers: it is complete before they get their first job.
  state_->workers.reserve(static_cast<size_t>(threads - 1));
  for (int i = 1; i < threads; ++i) {
    state_->workers.emplace_back([state = state_.get(), on_start] { state->serve(on_start); });
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::scoped_lock lock(state_->mutex);
    state_->stopping = true;
  }
  state_->work.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::threads() const {
  return static_cast<int>(state_->workers.size()) + 1;
}

void ThreadPool::for_each(int64_t count, const std::function<void(int64_t)>& body) {
  Job job(count, body);
  if (count <= 1 || state_->workers.empty() || state_->inside()) {
    job.run();
  } else {
    state_->run(job);
  }
  job.rethrow();
}

void ThreadPool::for_ranges(int64_t count, int64_t grain,
                            const std::function<void(int64_t, int64_t)>& body) {
  if (count <= 0) return;
  // A few runs for each thread: a thread that is held up does not hold up the others for long.
  constexpr int64_t kRunsPerThread = 4;
  const int64_t most = std::max<int64_t>(1, count / std::max<int64_t>(1, grain));
  const int64_t runs = std::min<int64_t>(most, kRunsPerThread * threads());
  const int64_t size = count / runs;
  const int64_t longer = count % runs;
  for_each(runs, [&](int64_t i) {
    const int64_t begin = i * size + std::min(i, longer);
    body(begin, begin + size + (i < longer ? 1 : 0));
  });
}

}  // namespace halftone
