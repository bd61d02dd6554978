#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "evaluate/serving/job.h"
#include "evaluate/serving/shared_batch.h"
#include "text/text_stream.h"

namespace halftone {

struct SchedulerLimits {
  int64_t rows = 16;    // sequences that are continued at a time
  int64_t queue = 256;  // that wait for their turn
};

// What happened so far, for /metrics. Read by any thread.
struct ServingCounts {
  std::atomic<int64_t> prompt_tokens{0};
  std::atomic<int64_t> generated_tokens{0};
  std::atomic<int64_t> finished{0};
  std::atomic<int64_t> cancelled{0};
  std::atomic<int64_t> running{0};
  std::atomic<int64_t> waiting{0};
  std::atomic<int64_t> steps{0};
};

// Continues jobs in the order in which they came, as many at a time as there are rows. Jobs are
// submitted by any thread; run() works on them in the thread that calls it, rank 0's.
class Scheduler {
 public:
  // Both outlive this.
  Scheduler(SharedBatch& batch, const Tokenizer& tokenizer, std::vector<int64_t> stop_ids,
            int64_t length, const SchedulerLimits& limits);

  // False: the queue is full, or the service ends.
  bool submit(const std::vector<std::shared_ptr<Job>>& jobs);
  // Until `stopping` becomes true; then fails what is left and lets the other ranks go.
  void run(const std::function<bool()>& stopping);
  const ServingCounts& counts() const { return counts_; }

 private:
  struct Row {
    std::shared_ptr<Job> job;
    TextStream text;
    int64_t last = 0;  // the token that continues it
    int64_t generated = 0;
  };
  std::vector<std::shared_ptr<Job>> next_jobs(size_t most);
  void wait_for_work();
  void admit();
  // The prompt's tokens, and the first one behind it; whether that ended the job.
  bool echo(Row& row);
  void step();
  // Draws a row's next token; false when the row ends with it.
  bool continues(Row& row, const at::Tensor& logits_V);
  ServedToken served(const CompletionRequest& request, int64_t id,
                     const at::Tensor& logits_V) const;
  void end(Row& row, FinishReason reason);
  void fail_all(const std::string& why);

  SharedBatch& batch_;
  const Tokenizer& tokenizer_;
  std::vector<int64_t> stop_ids_;
  int64_t length_;
  SchedulerLimits limits_;
  std::vector<Row> rows_;
  ServingCounts counts_;
  std::mutex mutex_;
  std::condition_variable submitted_;
  std::deque<std::shared_ptr<Job>> queue_;
  bool closed_ = false;
};

}  // namespace halftone
