#include "io/file_pool.h"

namespace halftone {
namespace {

constexpr size_t kMostOpen = 128;

}  // namespace

std::shared_ptr<const File> FilePool::open(size_t index) const {
  const std::lock_guard lock(mutex_);
  if (const auto found = open_.find(index); found != open_.end()) {
    recent_.remove(index);
    recent_.push_front(index);
    return found->second;
  }
  auto file = std::make_shared<File>(File::open_for_reading(paths_.at(index)));
  if (bypasses_) file->bypass_cache();
  if (open_.size() >= kMostOpen) {
    open_.erase(recent_.back());
    recent_.pop_back();
  }
  recent_.push_front(index);
  return open_.emplace(index, std::move(file)).first->second;
}

void FilePool::bypass_cache() {
  const std::lock_guard lock(mutex_);
  bypasses_ = true;
  open_.clear();
  recent_.clear();
}

}  // namespace halftone
