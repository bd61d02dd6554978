#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace halftone {

// What a rank is doing. Plain bytes, so that it travels as it is; longer names are cut.
struct ActivityState {
  std::array<char, 64> stage{};       // "calibrate layer 12"; empty before the first
  std::array<char, 24> step{};        // "forward"
  std::array<char, 24> collective{};  // the oldest one under way; empty: this rank computes
  int64_t collectives = 0;            // begun so far
  int64_t milliseconds = 0;           // in this collective, or without one

  bool waits() const { return collective.front() != '\0'; }
  // "all-gather of calibrate layer 12", "forward of calibrate layer 12" or "the start".
  std::string where() const;
};

// The activity of this process. All functions may be called from any thread.
class Activity {
 public:
  // Begins a stage; it has no step yet.
  void begin_stage(std::string_view stage);
  void begin_step(std::string_view step);
  ActivityState now() const;

  // A collective under way, for a scope. Without an activity it does nothing.
  class Collective {
   public:
    Collective(Activity* activity, const char* name);
    ~Collective();
    Collective(const Collective&) = delete;
    Collective& operator=(const Collective&) = delete;

   private:
    Activity* activity_;
    int64_t number_ = 0;
  };

 private:
  using Clock = std::chrono::steady_clock;
  struct UnderWay {
    int64_t number;
    const char* name;
    Clock::time_point since;
  };

  mutable std::mutex mutex_;
  std::string stage_;
  std::string step_;
  std::vector<UnderWay> under_way_;  // the oldest first
  int64_t collectives_ = 0;
  Clock::time_point computes_since_ = Clock::now();
};

}  // namespace halftone
