#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace halftone {

// How inference tensor parallelism splits a linear: its outputs, its inputs, or not at all.
enum class ShardAxis : uint8_t { kNone, kOutput, kInput };

// One quantizable weight with its input.
struct LinearSite {
  std::string name;  // module path, "model.layers.0.self_attn.q_proj"
  int64_t out = 0;
  int64_t in = 0;
  std::string weight;  // the weight's name on disk
  std::string bias;    // the bias', empty: none
  // Linears of a stage that read the same tensor and that engines merge carry the same number; -1:
  // none.
  int fused_group = -1;
  // The linear of the stage whose output channels are, up to an elementwise factor, this one's
  // input channels, and whose rows may therefore carry this one's pre-quantization scale; -1: none.
  int previous = -1;
  // A routed expert of the stage's block `experts` and the role of this linear in it ("up_proj");
  // -1: not an expert's.
  int expert = -1;
  std::string role = {};
  // The module that stacks this expert's weight with its peers' ("...experts.gate_up_proj"): they
  // share one weight amax and, in formats that engines know so, one tensor. Empty: none.
  std::string stacked = {};
  ShardAxis shard = ShardAxis::kNone;
  // The module's name within a layer of a TensorRT-LLM checkpoint ("attention.qkv").
  std::string trtllm = {};
  // Reads one row for each position of the encoder, not of the decoder.
  bool of_encoder = false;
};

// A norm whose output is read by the linears of one fused group and by nothing else, so that a
// scale of their input may be multiplied into its weight.
struct NormSite {
  std::string weight;  // names on disk
  std::string bias;    // empty: none
  int fused_group = -1;
  bool adds_one = false;  // applies 1 + weight
};

// An attention module whose keys and values go into the cache.
struct AttentionSite {
  std::string name;  // "model.layers.0.self_attn"
  int64_t kv_heads = 0;
  int64_t key_dim = 0;  // of a head
  int64_t value_dim = 0;
  bool of_encoder = false;  // holds the encoder's positions
};

// Where each row of a batch has its real tokens: [begin, end) of the padded length.
struct TokenRange {
  int64_t begin = 0;
  int64_t end = 0;
};

// The seam between models and everything that quantizes: a model calls every linear through it and
// knows nothing of formats; observers, searches and fake quantization implement it and know nothing
// of models. One object serves one batch, or some rows of one, of one stage.
class LinearRunner {
 public:
  virtual ~LinearRunner() = default;

  // y_BTN = x_BTK W^T + b. `site` is the index in the stage's list of linears; bias_N may be
  // undefined.
  virtual at::Tensor linear(size_t site, const at::Tensor& x_BTK, const at::Tensor& w_NK,
                            const at::Tensor& bias_N) = 0;
  // Keys (behind rotary embedding) and values [B, heads, T, dim] on their way into the cache.
  virtual std::pair<at::Tensor, at::Tensor> key_value(size_t site, at::Tensor k_BHTD,
                                                      at::Tensor v_BHTD) = 0;
  // A router's choice: experts (int64) of each routed token and the weights of their outputs.
  virtual void routed(const at::Tensor& /*ids_TK*/, const at::Tensor& /*weights_TK*/) {}
  // Where memory does not suffice for a whole batch, a runner of the same kind serves each of its
  // parts; the first one takes over what those of the rows behind it recorded, in order.
  virtual void take_rows(LinearRunner& /*behind*/) {}
};

// Computes, nothing else.
class PlainRunner : public LinearRunner {
 public:
  at::Tensor linear(size_t site, const at::Tensor& x_BTK, const at::Tensor& w_NK,
                    const at::Tensor& bias_N) override;
  std::pair<at::Tensor, at::Tensor> key_value(size_t site, at::Tensor k_BHTD,
                                              at::Tensor v_BHTD) override;
};

}  // namespace halftone
