#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dist/activity.h"

namespace halftone {

// How a rank stands, in the order of their weight: of two reports the graver one holds.
enum class Standing : int32_t {
  kRunning,
  kDone,    // its work is over; it waits for the others
  kFailed,  // it ends the run with `code`
  kSilent,  // lost: nothing was heard of it for `code` milliseconds
  kGone,    // lost: its process has ended
  kOrphan,  // lost: what started it has ended, and MPI is about to end it too
};

// What a rank knows of another.
struct RankReport {
  int64_t beat = 0;  // the subject counts its own reports
  Standing standing = Standing::kRunning;
  int32_t code = 0;
  ActivityState activity;
};

// One rank's list of all ranks of a run: when each was last heard of and what it then did. Ranks
// exchange their lists; who is missing follows from the list alone. Knows no clock and no network.
class RollCall {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::steady_clock::duration;

  RollCall(int rank, std::vector<std::string> hosts, Time now);

  std::span<const RankReport> reports() const { return reports_; }
  // This rank lives.
  void beat(const ActivityState& activity);
  // What it does now.
  void set_activity(const ActivityState& activity);
  // Takes over what another list knows better. True: there is news that others should hear soon.
  bool merge(std::span<const RankReport> other, Time now);
  // Another standing than before of this or another rank. True: it is news.
  bool set_standing(int rank, Standing standing, int32_t code);
  // Ranks that were silent for so long are lost.
  void note_silence(Time now, Duration limit);
  // This process did not run for a while, so nobody's silence counts.
  void forgive(Time now);

  bool all_done() const;
  // The first one that failed or was lost.
  std::optional<int> failed() const;
  std::optional<int> lost() const;
  std::vector<int> lost_ranks() const;
  bool has_orphans() const;
  // The first one that runs and is not of `gone`, to speak for all.
  int first_alive() const;

  // "rank 3 on host b was last heard of 60 s ago, in all-gather of calibrate layer 12; rank 0 has
  // waited 58 s in all-gather of calibrate layer 12"
  std::string describe_loss(int lost) const;
  // "rank 3 on host b has computed 40 s in forward of calibrate layer 12 while ranks 0-2 wait in
  // all-gather of calibrate layer 12". Nothing unless this rank is the first one that has waited
  // for `patience` at least, and others that still report have not come.
  std::string describe_wait(Duration patience, Time now) const;
  // Ranks not heard of for so long, the longest first, for a last word: "rank 3 on host b (2.1 s
  // ago, in ...)". Those known to be alive are left out.
  std::string describe_quiet(Duration silence, Time now, std::span<const int> alive) const;

 private:
  std::string name_of(size_t rank) const;
  std::string own_state() const;
  int64_t milliseconds_of(size_t rank, Time now) const;

  size_t rank_;
  std::vector<std::string> hosts_;
  std::vector<RankReport> reports_;
  std::vector<Time> heard_;
};

}  // namespace halftone
