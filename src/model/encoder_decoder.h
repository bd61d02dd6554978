#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model/blocks.h"
#include "model/model.h"

namespace halftone {

enum class Stack { kEncoder, kDecoder };

// By transformers' name ("gelu_new"); nothing for one that is not supported.
std::optional<Activation> activation_named(const std::string& name);
// "relu, gelu, ..." for errors.
std::string activation_names();

struct StackShape {
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t head_dim = 0;
  int64_t intermediate = 0;
  double attention_scale = 1.0;
};

struct EncoderDecoderShape {
  int64_t hidden = 0;
  int64_t vocabulary = 0;
  StackShape encoder;
  StackShape decoder;
  std::array<const char*, 4> projections = {};  // names of q, k, v and o
  std::array<bool, 4> projection_biases = {};
  bool layer_norm = false;  // LayerNorm with a bias; otherwise RMS norm
  double norm_epsilon = 1e-6;
  bool gated = false;  // act(first x) * (second x), otherwise act(first x)
  bool mlp_bias = false;
  Activation activation = Activation::kRelu;

  const StackShape& of(Stack stack) const { return stack == Stack::kEncoder ? encoder : decoder; }
};

// The modules of one layer.
struct LayerModules {
  std::string self_attention;
  std::string self_norm;
  std::string cross_attention;  // empty in the encoder, as is its norm
  std::string cross_norm;
  std::vector<std::string> mlp;  // one or two into the inner width, one back
  std::string mlp_norm;
  // An embedding [buckets, heads] that self attention reads, shared by the stack's layers; empty:
  // none.
  std::string position_bias;
  int64_t position_buckets = 0;
};

// Two stacks of pre-norm layers, each x + f(norm(x)) of self attention, in the decoder attention to
// the encoder's output, and an MLP. What differs between families is in the shape and the virtual
// functions. Stages: encoder embedding, encoder layers, decoder embedding (with the encoder's final
// norm), decoder layers, head (with the decoder's).
class EncoderDecoderModel : public Model {
 public:
  explicit EncoderDecoderModel(const EncoderDecoderShape& shape) : shape_(shape) {}

  const std::vector<StageSpec>& stages() const override { return stages_; }
  int64_t hidden_size() const override { return shape_.hidden; }
  int64_t vocabulary() const override { return shape_.vocabulary; }
  bool has_encoder() const override { return true; }

  void prepare(int64_t /*length*/, at::ScalarType /*dtype*/, at::Device /*device*/) override {}
  States forward(size_t stage, const StagePart& part, const StageWeights& weights, States states,
                 const BatchContext& batch, LinearRunner& runner) const override;

 protected:
  const EncoderDecoderShape& shape() const { return shape_; }

  // Called at the end of a family's constructor. `head` holds its linear and that one's tensors.
  void make_stages(StageSpec encoder_embedding, StageSpec decoder_embedding, StageSpec head);

  virtual LayerModules layer_modules(Stack stack, int64_t layer) const = 0;
  virtual std::string final_norm(Stack stack) const = 0;
  // [B, S, H] of ids [B, S] or features, [B, T, H] of ids [B, T].
  virtual at::Tensor embed_encoder(const StageWeights& weights, const at::Tensor& input) const = 0;
  virtual at::Tensor embed_decoder(const StageWeights& weights, const at::Tensor& ids_BT) const = 0;
  // What is added to the scores of self attention (floating, broadcast to [B, heads, T, T]) or
  // which keys a query may see (bool). Undefined: causal in the decoder, everything in the encoder.
  virtual at::Tensor self_mask(Stack stack, const StageWeights& weights, const at::Tensor& x_BTH,
                               const BatchContext& batch) const = 0;
  // What the head multiplies its input by.
  virtual double head_scale() const { return 1.0; }

  // The keys of the encoder that are no padding: bool [B, 1, 1, S]; undefined without padding.
  static at::Tensor encoder_mask(const BatchContext& batch, at::Device device);

 private:
  StageSpec layer_stage(Stack stack, int64_t layer) const;
  void add_attention(StageSpec& stage, const std::string& module, const std::string& trtllm,
                     const StackShape& stack, bool of_encoder, bool cross) const;
  void add_mlp(StageSpec& stage, const LayerModules& modules, const StackShape& stack,
               bool of_encoder) const;
  void add_norm(StageSpec& stage, const std::string& module, int fused_group) const;

  at::Tensor norm(const std::string& module, const StageWeights& weights,
                  const at::Tensor& x_BTH) const;
  at::Tensor layer(Stack stack, size_t stage, const StageWeights& weights, const States& states,
                   const BatchContext& batch, LinearRunner& runner) const;

  EncoderDecoderShape shape_;
  std::vector<StageSpec> stages_;
  std::vector<LayerModules> modules_;  // of each stage; empty of those that are no layers
};

}  // namespace halftone
