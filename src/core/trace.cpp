#include "core/trace.h"

#include <algorithm>
#include <tuple>

namespace halftone {
namespace {

double seconds_between(Trace::Clock::time_point begin, Trace::Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

Json named(int rank, const char* what, size_t lane, const std::string& name) {
  return {{"ph", "M"}, {"pid", rank}, {"tid", lane}, {"name", what}, {"args", {{"name", name}}}};
}

}  // namespace

const char* name_of(SpanKind kind) {
  static constexpr std::array<const char*, kSpanKinds> kNames{
      "read", "gather", "scan", "forward", "reduce", "solve", "pack", "write", "wait"};
  return kNames[static_cast<size_t>(kind)];
}

Trace::Trace(size_t most_spans) : most_spans_(most_spans), start_(Clock::now()) {}

void Trace::add(SpanKind kind, size_t stage, Clock::time_point begin, Clock::time_point end) {
  const std::scoped_lock lock(mutex_);
  if (sums_.size() <= stage) sums_.resize(stage + 1);
  sums_[stage][static_cast<size_t>(kind)] += seconds_between(begin, end);
  if (spans_.size() < most_spans_) {
    spans_.push_back({kind, stage, begin, end});
  } else {
    ++dropped_;
  }
}

Trace::Sums Trace::sums(size_t stages) const {
  const std::scoped_lock lock(mutex_);
  Sums sums = sums_;
  sums.resize(stages);
  return sums;
}

double Trace::seconds() const {
  return seconds_between(start_, Clock::now());
}

size_t Trace::dropped() const {
  const std::scoped_lock lock(mutex_);
  return most_spans_ == 0 ? 0 : dropped_;
}

Json Trace::events(int rank, const std::vector<std::string>& stages) const {
  std::vector<Kept> spans;
  {
    const std::scoped_lock lock(mutex_);
    spans = spans_;
  }
  std::sort(spans.begin(), spans.end(), [](const Kept& a, const Kept& b) {
    return std::tuple(a.begin, b.end) < std::tuple(b.begin, a.end);
  });
  Json events = Json::array();
  events.push_back(named(rank, "process_name", 0, "rank " + std::to_string(rank)));
  for (size_t lane = 0; lane < kSpanKinds; ++lane) {
    events.push_back(named(rank, "thread_name", lane, name_of(static_cast<SpanKind>(lane))));
  }
  constexpr double kMicroseconds = 1e6;
  for (const Kept& span : spans) {
    events.push_back({{"ph", "X"},
                      {"pid", rank},
                      {"tid", static_cast<size_t>(span.kind)},
                      {"name", span.stage < stages.size() ? stages[span.stage] : "end"},
                      {"cat", name_of(span.kind)},
                      {"ts", kMicroseconds * seconds_between(start_, span.begin)},
                      {"dur", kMicroseconds * seconds_between(span.begin, span.end)}});
  }
  return events;
}

}  // namespace halftone
