#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "io/write_queue.h"

namespace halftone::test {

// Bytes for a write queue that go with their last holder.
inline HeldBytes held(std::vector<char> bytes) {
  const auto owner = std::make_shared<const std::vector<char>>(std::move(bytes));
  return {owner->data(), static_cast<int64_t>(owner->size()), owner};
}

}  // namespace halftone::test
