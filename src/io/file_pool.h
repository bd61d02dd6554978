#pragma once

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "core/files.h"

namespace halftone {

// Files that are read now and then: thousands of them would not all stay open.
class FilePool {
 public:
  explicit FilePool(std::vector<fs::path> paths) : paths_(std::move(paths)) {}

  const std::vector<fs::path>& paths() const { return paths_; }
  // Open until the last one who holds it lets go. Any thread.
  std::shared_ptr<const File> open(size_t index) const;
  void read(size_t index, int64_t offset, void* data, int64_t bytes) const {
    open(index)->read_at(offset, data, bytes);
  }
  // File::bypass_cache() of all that are opened from now on.
  void bypass_cache();

 private:
  std::vector<fs::path> paths_;
  mutable std::mutex mutex_;
  mutable std::map<size_t, std::shared_ptr<const File>> open_;
  mutable std::list<size_t> recent_;  // of the open ones, the latest first
  bool bypasses_ = false;
};

}  // namespace halftone
