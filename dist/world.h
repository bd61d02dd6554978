#pragma once

#include <memory>
#include <string>
#include <vector>

namespace halftone {

// The processes of a run: MPI's start and end, and who sits where. One per process, made in main.
class World {
 public:
  // Starts MPI (threads: one of them at a time talks). Without a launcher this is a world of one.
  World(int* argc, char*** argv);
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

  // Ends all ranks at once with this exit code; returns only in a world of one.
  void abort(int exit_code) const;

 private:
  int rank_ = 0;
  int size_ = 1;
  int local_rank_ = 0;
  int local_size_ = 1;
  int nodes_ = 1;
  std::vector<int> node_of_;
  std::string host_;
};

}  // namespace halftone
