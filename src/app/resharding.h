#pragma once

#include <memory>
#include <string>
#include <vector>

#include "app/read_unified.h"
#include "engine/cluster.h"
#include "export/reshard_plan.h"
#include "export/resharded_output.h"

namespace halftone {

// A unified checkpoint on its way into rank files.
class Resharding {
 public:
  // `folder`: below the output; empty: all of it. Refuses what the layout cannot carry. Collective.
  Resharding(const Options& options, const fs::path& unified, std::string folder,
             Communicator& ranks);

  const std::string& folder() const { return folder_; }
  int64_t tensor_bytes() const;
  void add_to(BytePlan& bytes) const;
  // The folders for the files of add_to(), and everything else, in the output that is not published
  // yet. By one rank.
  void make_folders(const ReshardedOutput& output) const;
  void complete(const ReshardedOutput& output) const;

 private:
  std::string folder_;
  ReadUnified read_;
  Parallelism parallel_;
  ReshardPlan plan_;
};

// All of them into an output that is not published yet; `bytes` are what they have added.
// Collective.
void write_all(const std::vector<std::unique_ptr<Resharding>>& all, const BytePlan& bytes,
               const Cluster& cluster, ReshardedOutput& output);

}  // namespace halftone
