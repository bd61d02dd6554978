#pragma once

#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "evaluate/serving/scheduler.h"

namespace halftone {

// Counts of HTTP answers, and everything as Prometheus reads it.
class Metrics {
 public:
  void count(const std::string& route, int status);
  std::string text(const ServingCounts& counts) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, int64_t> answers_;
};

}  // namespace halftone
