#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "model/model.h"
#include "model/rope.h"

namespace halftone {

// Root mean square norm: x / rms(x) in fp32, rounded to x's dtype, times the weight.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight_H, double epsilon);
// Mean and variance over the last dimension in fp32; `bias_H` may be undefined.
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight_H, const at::Tensor& bias_H,
                      double epsilon);

enum class NormKind {
  kRms,         // rms_norm
  kRmsWide,     // the weight multiplied in fp32 too
  kRmsPlusOne,  // the same with 1 + weight
  kLayer,       // layer_norm with weight and bias
};

// A norm of a stage with the names of its tensors; applies nothing where the weight has no name.
struct Norm {
  NormKind kind = NormKind::kRms;
  double epsilon = 1e-6;
  std::string weight = {};
  std::string bias = {};  // empty: none

  at::Tensor operator()(const at::Tensor& x, const StageWeights& weights) const;
};

enum class Activation { kSilu, kGelu, kGeluTanh, kRelu };
at::Tensor activate(const at::Tensor& x, Activation activation);

// How far back a query sees, itself included; 0: without limit.
struct AttentionReach {
  int64_t window = 0;  // the last `window` keys
  int64_t chunk = 0;   // keys of its own chunk, counted from the row's first real token
};

// Which keys a query may see, the cached ones included: causal, within reach, and no padding.
// Undefined where that is plainly causal, or all keys for a single query. Otherwise bool
// [B, 1, T, keys], or [1, 1, T, keys] for a batch without padding; a padding query sees nothing,
// and its attention output is 0 (calibration.md, 1.4).
at::Tensor attention_mask(const BatchContext& batch, at::Device device,
                          const AttentionReach& reach = {});

// Scaled dot-product attention; queries may have a multiple of the keys' heads. `mask`: undefined
// for causal attention (a single query sees all keys), bool, or floating to be added to the scores.
// A query that sees nothing in a bool mask gets 0.
at::Tensor attention(const at::Tensor& q_BHTD, const at::Tensor& k_BGTD, const at::Tensor& v_BGTD,
                     const at::Tensor& mask, double scale);
// The same with one more logit in the denominator of each head, to which no value belongs.
at::Tensor attention_with_sinks(const at::Tensor& q_BHTD, const at::Tensor& k_BGTD,
                                const at::Tensor& v_BGTD, const at::Tensor& mask, double scale,
                                const at::Tensor& sinks_H);

}  // namespace halftone
