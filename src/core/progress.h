#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace halftone {

double seconds_since(std::chrono::steady_clock::time_point start);

// Says how far a run is: a bar that redraws itself when standard error is a terminal, a plain line
// per step otherwise (at most one a second). Only the rank that speaks makes an enabled one.
class Progress {
 public:
  Progress(std::string title, int64_t steps, bool enabled);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Step `done` of `steps` is over; `detail` names it ("layer 3, 16 batches"), `bytes` is what was
  // read and written so far.
  void step(int64_t done, const std::string& detail, int64_t bytes);

 private:
  std::string title_;
  int64_t steps_;
  bool enabled_;
  bool terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_line_;
};

}  // namespace halftone
