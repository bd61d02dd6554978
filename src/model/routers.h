#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace halftone {

// How a layer's tokens choose their experts and weigh them.
struct RouterSpec {
  enum class Kind {
    kSoftmax,          // softmax over all experts, the top k of it
    kSoftmaxOfChosen,  // the top k logits, softmax over those
    kSigmoidOfLogit,   // the top k logits, the sigmoid of each
    kSigmoidGroups,    // DeepSeek-V3: sigmoid, a correction that only selects, the best groups
    kSparseMixer,      // Phi-3.5-MoE (Liu et al. 2024): two experts, one after the other
  };
  Kind kind = Kind::kSoftmax;
  int64_t experts = 0;
  int64_t top_k = 0;
  bool renormalize = false;  // weights sum to 1
  double scaling = 1.0;      // of the weights, behind that
  int64_t groups = 1;        // kSigmoidGroups
  int64_t kept_groups = 1;
  double jitter = 0.0;  // kSparseMixer: experts further than 2 * jitter from the best do not count
};

struct Routing {
  at::Tensor ids_TK;      // int64
  at::Tensor weights_TK;  // fp32
  at::Tensor ranking_TE;  // what selects
};

// Whether the logits are computed in fp32 whatever the compute dtype.
bool routes_in_fp32(const RouterSpec& router);

// logits [tokens, experts]; `correction_E` fp32, undefined where there is none.
Routing route(const RouterSpec& router, const at::Tensor& logits_TE,
              const at::Tensor& correction_E);

// Adds the next best experts of each token by the router's ranking until there are `count`. Their
// weights are 0, or, where the weight multiplies the input, what it would be.
Routing widen(const RouterSpec& router, const Routing& routing, int64_t count);

}  // namespace halftone
