#pragma once

#include <optional>

#include "dist/agreement.h"
#include "tests/core/temporary_folder.h"
#include "tests/support/mpi_world.h"

namespace halftone::test {

// One folder for all ranks; rank 0 makes and removes it. Collective.
class SharedFolder {
 public:
  SharedFolder() : ranks_(make_mpi_communicator(test_world())) {
    if (ranks_->rank() == 0) mine_.emplace();
    path_ = broadcast_text(*ranks_, mine_ ? mine_->path().string() : "", 0);
  }
  ~SharedFolder() { ranks_->barrier(); }
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;

  const fs::path& path() const { return path_; }
  Communicator& ranks() const { return *ranks_; }
  bool first() const { return ranks_->rank() == 0; }
  // Runs on rank 0, when all have come here and before the others go on.
  template <typename Action>
  void on_first(const Action& action) const {
    ranks_->barrier();
    if (first()) action();
    ranks_->barrier();
  }

 private:
  std::optional<TemporaryFolder> mine_;
  std::unique_ptr<Communicator> ranks_;
  fs::path path_;
};

}  // namespace halftone::test
