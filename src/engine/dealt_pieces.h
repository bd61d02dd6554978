#pragma once

#include <cstddef>
#include <vector>

#include "dist/world.h"

namespace halftone {

// Something that goes into one of the output's files.
struct OutputPiece {
  size_t file = 0;
  int64_t bytes = 0;  // of work
};

// Which of them this rank writes: a file belongs to one node, whose ranks share its pieces by their
// cost. Every rank gives the same list.
std::vector<bool> deal_pieces(const std::vector<OutputPiece>& pieces, const World& world);

}  // namespace halftone
