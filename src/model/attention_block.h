#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/decoder_spec.h"
#include "model/stage_builder.h"

namespace halftone {

// Half of a layer: x_BTH to y_BTH, norms and residual left out.
class Block {
 public:
  virtual ~Block() = default;
  virtual at::Tensor forward(const StageCall& call, const at::Tensor& x_BTH,
                             const std::vector<Rope>& ropes) const = 0;
};

// The attention of layer `prefix` ("model.layers.3"); its tensors and sites are added to `builder`.
struct AttentionBlock {
  std::unique_ptr<Block> block;  // null: the layer has none
  int input_group = -1;          // of the linears that read its input
};
AttentionBlock make_attention(const DecoderSpec& model, const AttentionSpec& spec,
                              const std::string& prefix, StageBuilder& builder);
// DeepSeek's latent attention (DeepSeek-V2, 2405.04434, section 2.1), of the same.
AttentionBlock make_latent_attention(const DecoderSpec& model, const AttentionSpec& spec,
                                     const std::string& name, StageBuilder& builder);
// One matrix in place of a block.
std::unique_ptr<Block> make_linear_block(const LinearPlan& plan, StageBuilder& builder);

// x [B, T, heads * dim] to [B, heads, T, dim] and back.
at::Tensor split_heads(const at::Tensor& x_BTK, int64_t dim);
at::Tensor join_heads(const at::Tensor& x_BHTD);

}  // namespace halftone
