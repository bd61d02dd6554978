#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "formats/kv_cache.h"
#include "formats/linear_format.h"

namespace halftone {

// One change of a weight before it is quantized. Every change ends in the model's dtype T
// (formats-and-hf-export.md, 2.15 and 3.3).
struct WeightEdit {
  enum class Kind : uint8_t {
    kScaleColumns,     // w * a, a [in]
    kResmoothColumns,  // (w * a) / b, a and b [in]
    kScaleRows,        // w * a, a [out]
    kSubtractLowRank,  // w - b a, a [rank, in], b [out, rank]
    kReplace,          // a [out, in]
  };
  Kind kind;
  at::Tensor a;  // F32, or T for low rank and replacement
  at::Tensor b;
};

// How the block (or row) amaxes of a weight follow from it.
struct BlockAmaxRule {
  enum class Kind : uint8_t {
    kOwn,          // its own
    kClip,         // its own times `clip_ratio`
    kMultipliers,  // its own times the best of `candidates`
    kSweep,        // the tensor's amax times the best of `candidates`
    kFixed,        // `amax`
    kCastMxfp4,    // those of mxfp4_cast.h, from the block exponents in `amax`
  };
  Kind kind = Kind::kOwn;
  at::Tensor clip_ratio;          // F32 [out, blocks]
  std::vector<float> candidates;  // ascending
  at::Tensor hessian_B1616;       // F32 [in/16, 16, 16]: weighs the errors; undefined: equally
  at::Tensor amax;                // F32 [out, blocks]
  int second_exponent = 0;
};

// What calibration decides of one linear.
struct LinearSolution {
  std::vector<WeightEdit> edits;   // in order
  float weight_amax = 0.0f;        // of the edited weight, unified; codecs that use it
  float tensor_clip_ratio = 1.0f;  // of weight_amax
  BlockAmaxRule block_amax;
  std::optional<float> input_amax;  // of the smoothed input
  DType input_dtype = DType::kF32;
  at::Tensor pre_quant_scale_K;  // T; undefined: none, or folded away
  at::Tensor low_rank_a_RK;      // T
  at::Tensor low_rank_b_NR;
  bool keeps_amax = false;       // weight_amax is the source weight's whatever the edits
  Json record = Json::object();  // for summary.json: exponents, losses, "fallback"
};

struct CacheSolution {
  CacheScale key;
  CacheScale value;
};

struct StageSolution {
  std::vector<LinearSolution> linears;        // in the order of the stage's list
  std::map<std::string, at::Tensor> tensors;  // norms and biases that take over scales, by name
  std::vector<CacheSolution> caches;          // in the order of the stage's attentions
  Json record = Json::object();               // of the stage: expert coverage
};

// The weight that is quantized: w_NK (in T) with all edits.
at::Tensor edited_weight(const LinearSolution& solution, const at::Tensor& w_NK);

// Every stored tensor of a linear, by suffix. w_NK: the edited weight.
PackedLinear pack_linear(const LinearFormat& format, const LinearSolution& solution,
                         const at::Tensor& w_NK, Numerics numerics, ThreadPool* pool);

}  // namespace halftone
