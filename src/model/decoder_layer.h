#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/experts.h"

namespace halftone {

// One decoder layer: attention and feed-forward, either of which may be absent, with their norms
// and residual sums.
class DecoderLayer {
 public:
  // `prefix`: "model.layers.3"; tensors and sites are added to `builder`.
  DecoderLayer(const DecoderSpec& model, const LayerSpec& spec, const std::string& prefix,
               StageBuilder& builder);

  // Moves states.x through the given part.
  void forward(const StageCall& call, const StagePart& part, const std::vector<Rope>& ropes,
               States& states) const;

 private:
  // The group of the linears that alone read the block's input; -1: none.
  int add_feed_forward(const DecoderSpec& model, const FeedForwardSpec& spec,
                       const std::string& prefix, StageBuilder& builder);

  std::unique_ptr<Block> attention_;
  std::unique_ptr<Block> feed_forward_;
  std::unique_ptr<ExpertsBlock> experts_;
  Norm attention_norm_, behind_attention_;
  Norm feed_forward_norm_, behind_feed_forward_;
};

}  // namespace halftone
