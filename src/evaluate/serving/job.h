#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "evaluate/generation/generator.h"
#include "text/tokenizer.h"

namespace halftone {

// One sequence that a client wants to have continued.
struct CompletionRequest {
  std::vector<int64_t> prompt;  // at least one token
  int64_t max_tokens = 16;      // 0: only with `echo`
  Sampling sampling = {};
  uint64_t sequence = 0;  // of the draw: sample()
  std::vector<std::string> stops = {};
  bool echo = false;      // the prompt's tokens come first
  int64_t logprobs = -1;  // how many of the most probable tokens to name; -1: no log-probabilities
  bool ignore_stop_ids = false;
};

// A token of a prompt or of a continuation.
struct ServedToken {
  int64_t id = 0;
  std::string text = {};  // what it adds to what the client gets; empty for a prompt's
  bool of_prompt = false;
  std::optional<double> log_probability = {};        // none: not asked for, or a prompt's first
  std::vector<std::pair<int64_t, double>> top = {};  // by falling probability
};

struct JobEvent {
  enum class Kind : uint8_t { kToken, kEnd, kFailure };
  Kind kind = Kind::kToken;
  ServedToken token = {};
  std::string text = {};  // kEnd: what was held back; kFailure: what happened
  FinishReason reason = FinishReason::kLength;
};

// A request on its way: the model's thread tells what comes of it, a client's thread listens.
class Job {
 public:
  explicit Job(CompletionRequest request) : request_(std::move(request)) {}

  const CompletionRequest& request() const { return request_; }
  void tell(JobEvent event);
  // Waits for the next event; nothing when none came in this time.
  std::optional<JobEvent> next(std::chrono::milliseconds patience);
  // The client is gone.
  void cancel() { cancelled_ = true; }
  bool cancelled() const { return cancelled_; }

 private:
  const CompletionRequest request_;
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;
  std::condition_variable told_;
  std::deque<JobEvent> events_;
};

}  // namespace halftone
