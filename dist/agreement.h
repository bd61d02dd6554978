#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "dist/communicator.h"

namespace halftone {

// Throws UsageError on every rank unless `value` is the same on all of them. The text names `what`
// (an option, say) and the first rank whose value is not rank 0's. Host communicators only.
void require_same(Communicator& communicator, std::string_view what, std::string_view value);

// Returns the root's text on every rank.
std::string broadcast_text(Communicator& communicator, std::string text, int root);

// Every rank's text, in rank order, on every rank.
std::vector<std::string> gather_texts(Communicator& communicator, std::string_view text);

}  // namespace halftone
