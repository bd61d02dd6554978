#include "export/staged_output.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdio>

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

fs::path hidden_sibling(const fs::path& path, const char* suffix) {
  return path.parent_path() / concat(".", path.filename().string(), suffix);
}

}  // namespace

StagedOutput::StagedOutput(fs::path out)
    : out_(std::move(out)),
      partial_(hidden_sibling(out_, ".partial")),
      replaced_(hidden_sibling(out_, ".replaced")) {}

void StagedOutput::begin(Communicator& communicator, bool resumed) const {
  if (communicator.rank() == 0) {
    // Killed between the two renames of replace(): the old output was not yet given up.
    if (!fs::exists(out_) && fs::exists(replaced_)) rename_path(replaced_, out_);
    remove_folder(replaced_);
    if (!resumed) remove_folder(partial_);
    std::error_code error;
    fs::create_directories(partial_, error);
    if (error) {
      throw ResourceError(concat("cannot create '", partial_.string(), "': ", error.message(),
                                 " (choose another --out)"));
    }
  }
  communicator.barrier();
}

void StagedOutput::clear() const {
  remove_folder(partial_);
  remove_folder(replaced_);
}

void StagedOutput::replace() const {
  if (::renameat2(AT_FDCWD, partial_.c_str(), AT_FDCWD, out_.c_str(), RENAME_EXCHANGE) == 0) {
    sync_directory(out_.parent_path());
    remove_folder(partial_);
    return;
  }
  if (errno != EINVAL && errno != ENOSYS) {
    throw ResourceError(concat("cannot exchange '", partial_.string(), "' and '", out_.string(),
                               "': ", errno_text(errno)));
  }
  rename_path(out_, replaced_);
  rename_path(partial_, out_);
  sync_directory(out_.parent_path());
  remove_folder(replaced_);
}

void StagedOutput::publish(Communicator& communicator, bool overwrite) const {
  if (communicator.rank() == 0) {
    sync_directory(partial_);
    if (!fs::exists(out_)) {
      rename_path(partial_, out_);
      sync_directory(out_.parent_path());
    } else if (overwrite) {
      replace();
    } else {
      throw UsageError(concat("'", out_.string(), "' exists already: choose another --out, or ",
                              "pass --overwrite; the finished checkpoint is in '",
                              partial_.string(), "'"));
    }
  }
  communicator.barrier();
}

}  // namespace halftone
