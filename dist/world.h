#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dist/activity.h"

namespace halftone {

class Watchdog;

// The processes of a run: MPI's start and end, and who sits where. One per process, made in main.
class World {
 public:
  // Starts MPI; threads talk side by side where it can do that, else one at a time. Without a
  // launcher this is a world of one.
  World(int* argc, char*** argv);
  // Waits for the other ranks, unless it unwinds.
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  // Position among the ranks of the same host, and how many those are.
  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }
  // Hosts are numbered in the order of their first rank; node_of()[r] is rank r's host.
  int node() const { return node_of_[static_cast<size_t>(rank_)]; }
  int nodes() const { return nodes_; }
  const std::vector<int>& node_of() const { return node_of_; }
  const std::string& host() const { return host_; }

  // Whether any threads of a rank may communicate at the same time (MPI_THREAD_MULTIPLE).
  bool threads_talk() const { return threads_talk_; }

  // What this process is doing, for the other ranks' watchdogs. Belongs to the process and may be
  // told by any thread.
  Activity& activity() const { return *activity_; }
  // From now on a rank that was silent for `limit` ends the run with exit code 5 (watchdog.h).
  // Collective; does nothing in a world of one.
  void start_watchdog(std::chrono::milliseconds limit) const;

  // What this process does when MPI has ended on all ranks: a kill before that finds it undone.
  // Not after an error. `last` must not throw.
  void at_end(std::function<void()> last) const { last_ = std::move(last); }

  // Ends all ranks with this exit code within seconds, whatever they hang in; returns only in a
  // world of one.
  void abort(int exit_code) const;
  // The same without a word to the other ranks' watchdogs; never returns.
  [[noreturn]] void end_all(int exit_code) const;

 private:
  int rank_ = 0;
  int size_ = 1;
  int local_rank_ = 0;
  int local_size_ = 1;
  int nodes_ = 1;
  std::vector<int> node_of_;
  std::string host_;
  bool threads_talk_ = false;
  std::unique_ptr<Activity> activity_ = std::make_unique<Activity>();
  mutable std::unique_ptr<Watchdog> watchdog_;
  mutable std::function<void()> last_;
};

}  // namespace halftone
