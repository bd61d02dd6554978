#include "evaluate/serving/job.h"

namespace halftone {

void Job::tell(JobEvent event) {
  {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
  }
  told_.notify_one();
}

std::optional<JobEvent> Job::next(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  if (!told_.wait_for(lock, patience, [&] { return !events_.empty(); })) return std::nullopt;
  JobEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

}  // namespace halftone
