#include "io/write_queue.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "kernels/check.h"

namespace halftone {
namespace {

struct Job {
  File* file = nullptr;
  int64_t offset = 0;
  HeldBytes data;
  size_t stage = 0;  // of the trace
};

void write_job(const Job& job) {
  if (!job.data.fetch) {
    job.file->write_at(job.offset, job.data.data, job.data.bytes);
    return;
  }
  for (int64_t begin = 0; begin < job.data.bytes; begin += HeldBytes::kPieceBytes) {
    const int64_t count = std::min(HeldBytes::kPieceBytes, job.data.bytes - begin);
    job.file->write_at(job.offset + begin, job.data.fetch(begin, count), count);
  }
}

}  // namespace

struct WriteQueue::State {
  State(int64_t limit_bytes, Trace* times) : limit(limit_bytes), trace(times) {}

  const int64_t limit;
  Trace* const trace;
  std::mutex mutex;
  std::condition_variable work;   // for the thread
  std::condition_variable space;  // for write() and drain()
  std::deque<Job> jobs;
  int64_t waiting_bytes = 0;  // the write under way included
  bool busy = false;
  bool stopping = false;
  std::exception_ptr failure;
  int64_t written = 0;
  double seconds = 0.0;
  std::thread thread;

  void run() {
    std::unique_lock lock(mutex);
    while (true) {
      work.wait(lock, [this] { return stopping || !jobs.empty(); });
      if (stopping) return;
      Job job = std::move(jobs.front());
      jobs.pop_front();
      busy = true;
      lock.unlock();

      const int64_t bytes = job.data.bytes;
      const auto begin = std::chrono::steady_clock::now();
      std::exception_ptr thrown;
      try {
        const Span span(trace, SpanKind::kWrite, job.stage);
        write_job(job);
      } catch (...) {
        thrown = std::current_exception();
      }
      const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
      // Freed before its bytes count as free: the limit is one of memory.
      job = Job();

      lock.lock();
      busy = false;
      seconds += spent.count();
      waiting_bytes -= bytes;
      if (thrown) {
        failure = thrown;
        jobs.clear();
        waiting_bytes = 0;
      } else {
        written += bytes;
      }
      space.notify_all();
    }
  }

  void rethrow() const {
    if (failure) std::rethrow_exception(failure);
  }
};

WriteQueue::WriteQueue(int64_t limit_bytes, Trace* trace)
    : state_(std::make_unique<State>(limit_bytes, trace)) {
  check(limit_bytes > 0, "a write queue has a limit above zero");
  state_->thread = std::thread([state = state_.get()] { state->run(); });
}

WriteQueue::~WriteQueue() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->work.notify_all();
  state_->thread.join();
}

void WriteQueue::write(File& file, int64_t offset, HeldBytes data) {
  Trace* const trace = state_->trace;
  Job job{&file, offset, std::move(data), trace != nullptr ? trace->stage() : 0};
  const int64_t bytes = job.data.bytes;
  std::unique_lock lock(state_->mutex);
  const auto has_space = [&] {
    return state_->failure || state_->waiting_bytes == 0 ||
           state_->waiting_bytes + bytes <= state_->limit;
  };
  if (!has_space()) {
    const Span span(trace, SpanKind::kWait);
    state_->space.wait(lock, has_space);
  }
  state_->rethrow();
  state_->waiting_bytes += bytes;
  state_->jobs.push_back(std::move(job));
  state_->work.notify_one();
}

void WriteQueue::drain() {
  const Span span(state_->trace, SpanKind::kWait);
  std::unique_lock lock(state_->mutex);
  state_->space.wait(lock,
                     [this] { return state_->failure || (state_->jobs.empty() && !state_->busy); });
  state_->rethrow();
}

int64_t WriteQueue::bytes_written() const {
  const std::lock_guard lock(state_->mutex);
  return state_->written;
}

double WriteQueue::seconds_writing() const {
  const std::lock_guard lock(state_->mutex);
  return state_->seconds;
}

}  // namespace halftone
