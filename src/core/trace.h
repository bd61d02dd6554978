#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "core/json.h"

namespace halftone {

// What a process does. One lane of a trace each.
enum class SpanKind : uint8_t {
  kRead,
  kGather,
  kScan,
  kForward,
  kReduce,
  kSolve,
  kPack,
  kWrite,
  kWait
};
inline constexpr size_t kSpanKinds = 9;
const char* name_of(SpanKind kind);

// Times of what a process does, by stage: sums of all spans, and the spans themselves as long as
// they are few enough. Any thread may add.
class Trace {
 public:
  using Clock = std::chrono::steady_clock;

  // Time counts from now. 0 spans: sums alone.
  explicit Trace(size_t most_spans);

  // The stage that the computation is at; what other threads do is booked by what they are given.
  void set_stage(size_t stage) { stage_ = stage; }
  size_t stage() const { return stage_; }
  void add(SpanKind kind, size_t stage, Clock::time_point begin, Clock::time_point end);

  // Per stage and kind, in seconds.
  using Sums = std::vector<std::array<double, kSpanKinds>>;
  Sums sums(size_t stages) const;
  double seconds() const;  // since the start
  size_t dropped() const;  // spans beyond the limit

  // Chrome's trace events of one process. A stage past the names is called "end".
  Json events(int rank, const std::vector<std::string>& stages) const;

 private:
  struct Kept {
    SpanKind kind;
    size_t stage;
    Clock::time_point begin;
    Clock::time_point end;
  };
  const size_t most_spans_;
  const Clock::time_point start_;
  std::atomic<size_t> stage_{0};
  mutable std::mutex mutex_;
  std::vector<Kept> spans_;
  size_t dropped_ = 0;
  Sums sums_;
};

// The time from here to the end of the scope. No trace: nothing.
class Span {
 public:
  Span(Trace* trace, SpanKind kind, size_t stage) : trace_(trace), kind_(kind), stage_(stage) {
    if (trace_ != nullptr) begin_ = Trace::Clock::now();
  }
  Span(Trace* trace, SpanKind kind) : Span(trace, kind, trace != nullptr ? trace->stage() : 0) {}
  ~Span() {
    if (trace_ != nullptr) trace_->add(kind_, stage_, begin_, Trace::Clock::now());
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  Trace* trace_;
  SpanKind kind_;
  size_t stage_;
  Trace::Clock::time_point begin_;
};

}  // namespace halftone
