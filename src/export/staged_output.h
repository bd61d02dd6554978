#pragma once

#include "core/files.h"
#include "dist/communicator.h"

namespace halftone {

// A folder that appears under its name when everything in it is complete: it is assembled beside it
// under a temporary name and renamed. Collective: every rank makes one with the same arguments.
class StagedOutput {
 public:
  explicit StagedOutput(fs::path out);

  // Where the content goes until publish().
  const fs::path& partial() const { return partial_; }

  // Makes the empty temporary folder; what an interrupted run left in it is removed, unless this
  // run goes on with it.
  void begin(Communicator& communicator, bool resumed) const;
  // Gives the folder its name. One that exists is replaced only with `overwrite`, in one step where
  // the file system can exchange two names.
  void publish(Communicator& communicator, bool overwrite) const;

  // Removes what an interrupted run left. By one rank.
  void clear() const;

 private:
  void replace() const;

  fs::path out_;
  fs::path partial_;
  fs::path replaced_;  // the old output, where two names cannot be exchanged
};

}  // namespace halftone
