#include "engine/dealt_pieces.h"

#include "dist/partition.h"

namespace halftone {

std::vector<bool> deal_pieces(const std::vector<OutputPiece>& pieces, const World& world) {
  std::vector<bool> mine(pieces.size(), false);
  for (int node = 0; node < world.nodes(); ++node) {
    std::vector<int> ranks;
    for (int rank = 0; rank < world.size(); ++rank) {
      if (world.node_of()[static_cast<size_t>(rank)] == node) ranks.push_back(rank);
    }
    std::vector<size_t> of_node;
    std::vector<int64_t> costs;
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (static_cast<int>(pieces[i].file % static_cast<size_t>(world.nodes())) != node) continue;
      of_node.push_back(i);
      costs.push_back(pieces[i].bytes);
    }
    const std::vector<int> dealt = deal_by_cost(costs, static_cast<int>(ranks.size()));
    for (size_t i = 0; i < of_node.size(); ++i) {
      mine[of_node[i]] = ranks[static_cast<size_t>(dealt[i])] == world.rank();
    }
  }
  return mine;
}

}  // namespace halftone
