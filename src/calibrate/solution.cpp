#include "calibrate/solution.h"

#include <ATen/ATen.h>

#include "calibrate/mxfp4_cast.h"
#include "formats/codecs.h"
#include "formats/tensor_bridge.h"
#include "kernels/check.h"
#include "kernels/mse_search.h"
#include "kernels/nvfp4_search.h"

namespace halftone {
namespace {

at::Tensor apply(const WeightEdit& edit, const at::Tensor& w_NK) {
  const at::Tensor a = edit.a.to(w_NK.device());
  const at::Tensor b = edit.b.defined() ? edit.b.to(w_NK.device()) : edit.b;
  const at::Tensor w = w_NK.to(at::kFloat);
  switch (edit.kind) {
    case WeightEdit::Kind::kScaleColumns:
      return w * a;
    case WeightEdit::Kind::kResmoothColumns:
      return w * a / b;
    case WeightEdit::Kind::kScaleRows:
      return w * a.unsqueeze(1);
    case WeightEdit::Kind::kSubtractLowRank:
      return w - at::mm(b.to(at::kFloat), a.to(at::kFloat));
    case WeightEdit::Kind::kReplace:
      return a;
  }
  return w_NK;
}

at::Tensor float_tensor(const std::vector<float>& values, at::Device device) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, at::kFloat);
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<float>());
  return tensor.to(device);
}

// The search of calibration.md, 5.1 to 5.3, over the blocks of one weight.
at::Tensor searched(const LinearFormat& format, const LinearSolution& solution,
                    const at::Tensor& w_NK, ThreadPool* pool) {
  const BlockAmaxRule& rule = solution.block_amax;
  const Codec& codec = *format.codec;
  const int64_t block = codec.block() > 0 ? codec.block() : w_NK.size(1);
  const at::Tensor own = block_amax_of(w_NK, block, pool);
  const at::Tensor candidates = float_tensor(rule.candidates, w_NK.device());
  const Context context = context_of(w_NK, pool);
  at::Tensor best = at::empty_like(own);
  if (const auto frozen = frozen_nvfp4(codec)) {
    const at::Tensor hessian = rule.hessian_B1616.defined()
                                   ? rule.hessian_B1616.to(w_NK.device()).contiguous()
                                   : rule.hessian_B1616;
    search_nvfp4_blocks(context, matrix_of(w_NK), own.const_data_ptr<float>(), solution.weight_amax,
                        *frozen, candidates.const_data_ptr<float>(), candidates.numel(),
                        rule.kind == BlockAmaxRule::Kind::kSweep,
                        hessian.defined() ? hessian.const_data_ptr<float>() : nullptr,
                        best.mutable_data_ptr<float>());
  } else {
    search_int_amax(context, matrix_of(w_NK), codec.block() > 0 ? 4 : 8, block,
                    own.const_data_ptr<float>(), candidates.const_data_ptr<float>(),
                    candidates.numel(), best.mutable_data_ptr<float>());
  }
  return best;
}

at::Tensor block_amax(const LinearFormat& format, const LinearSolution& solution,
                      const at::Tensor& w_NK, ThreadPool* pool) {
  const BlockAmaxRule& rule = solution.block_amax;
  switch (rule.kind) {
    case BlockAmaxRule::Kind::kOwn:
      return {};
    case BlockAmaxRule::Kind::kClip: {
      const int64_t block = format.codec->block() > 0 ? format.codec->block() : w_NK.size(1);
      return (block_amax_of(w_NK, block, pool) * rule.clip_ratio.to(w_NK.device()))
          .to(w_NK.scalar_type())
          .to(at::kFloat);
    }
    case BlockAmaxRule::Kind::kMultipliers:
    case BlockAmaxRule::Kind::kSweep:
      return searched(format, solution, w_NK, pool);
    case BlockAmaxRule::Kind::kFixed:
      return rule.amax.to(w_NK.device());
    case BlockAmaxRule::Kind::kCastMxfp4:
      return cast_block_amax(w_NK, rule.amax, rule.second_exponent, pool);
  }
  return {};
}

}  // namespace

at::Tensor edited_weight(const LinearSolution& solution, const at::Tensor& w_NK) {
  at::Tensor edited = w_NK;
  for (const WeightEdit& edit : solution.edits) {
    edited = apply(edit, edited).to(w_NK.scalar_type());
  }
  return edited.contiguous();
}

PackedLinear pack_linear(const LinearFormat& format, const LinearSolution& solution,
                         const at::Tensor& w_NK, Numerics numerics, ThreadPool* pool) {
  PackedLinear packed = format.codec->pack(
      w_NK, {solution.weight_amax, block_amax(format, solution, w_NK, pool)}, numerics, pool);
  if (format.input.has_scale()) {
    check(solution.input_amax.has_value(), "a quantized input has an amax");
    packed["input_scale"] = scalar_tensor(
        input_scale_of(format.input.kind, *solution.input_amax, solution.input_dtype, numerics));
  }
  if (format.pre_quant_scale == PreQuantScale::kStored) {
    packed["pre_quant_scale"] = solution.pre_quant_scale_K;
  }
  if (format.low_rank > 0) {
    packed[kLowRankA] = solution.low_rank_a_RK;
    packed[kLowRankB] = solution.low_rank_b_NR;
  }
  return packed;
}

}  // namespace halftone
