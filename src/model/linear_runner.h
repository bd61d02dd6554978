#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace halftone {

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
};

// An attention module whose keys and values go into the cache.
struct AttentionSite {
  std::string name;  // "model.layers.0.self_attn"
};

// Where each row of a batch has its real tokens: [begin, end) of the padded length.
struct TokenRange {
  int64_t begin = 0;
  int64_t end = 0;
};

// The seam between models and everything that quantizes: a model calls every linear through it and
// knows nothing of formats; observers, searches and fake quantization implement it and know nothing
// of models. One object serves one batch of one stage.
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
