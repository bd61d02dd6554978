#pragma once

#include <functional>
#include <string>
#include <vector>

#include "dist/byte_plan.h"
#include "dist/file_manifest.h"
#include "export/staged_output.h"

namespace halftone {

// A folder whose large files reshard() makes of others: assembled beside it by all ranks, named
// when everything is there. What is complete when the run ends early stays, and the same run goes
// on with it. Collective: every rank makes one with the same arguments and calls all functions.
class ReshardedOutput {
 public:
  ReshardedOutput(const fs::path& out, const std::vector<int>& node_of, Communicator& ranks);

  // Whether a run with this plan was killed between giving the folder its name and forgetting what
  // it had of it; what was left is removed then.
  bool is_published(const BytePlan& plan);
  // Where it is assembled.
  const fs::path& partial() const { return staged_.partial(); }

  // Writes the plan's files. Rank 0 makes their folders in partial() before, by `make_folders`.
  void write(const BytePlan& plan, const std::function<void()>& make_folders);
  // Of the plan's files in a folder below partial(), with their names in it.
  std::vector<FileRecord> records_below(const std::string& folder) const;
  // The digest of a folder below partial() that holds all its files ("": of all). Rank 0's word.
  std::string digest(const std::string& folder) const;
  // Every file is there. A folder of the same name is replaced only with `overwrite`. Returns the
  // digest of the whole.
  std::string publish(bool overwrite);
  // Forgets what an earlier run has left for a publication that has happened. By rank 0.
  void clear() const;

 private:
  bool leads() const { return ranks_.rank() == 0; }
  Json identity(const BytePlan& plan) const;

  fs::path out_;
  std::vector<int> node_of_;
  Communicator& ranks_;
  StagedOutput staged_;
  FileManifest manifest_;
  std::vector<FileRecord> records_;
};

}  // namespace halftone
