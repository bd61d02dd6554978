#include "formats/codec.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "formats/codecs.h"
#include "formats/tensor_bridge.h"
#include "kernels/amax.h"
#include "kernels/scale.h"

namespace halftone {
namespace {

// The explicit list of codecs, in the order in which they are tried.
constexpr MakeCodec kCodecs[] = {
    &match_fp8,   &match_fp8_rows, &match_fp8_tiles, &match_int8, &match_int4,
    &match_nvfp4, &match_mxfp4,    &match_mxfp8,     &match_nf4,
};

}  // namespace

PackedLinear Codec::rows(const PackedLinear& packed, int64_t begin, int64_t end) const {
  const int64_t out = packed.at("weight").size(0);
  PackedLinear piece;
  for (const auto& [suffix, tensor] : packed) {
    const bool of_rows = tensor.dim() > 0 && tensor.size(0) == out;
    piece[suffix] = of_rows ? tensor.slice(0, begin, end) : tensor;
  }
  return piece;
}

at::Tensor Codec::candidate(const at::Tensor& w_NK, const at::Tensor& column_scale_K, float ratio,
                            ThreadPool* pool) const {
  const at::Tensor scaled_NK =
      column_scale_K.defined()
          ? (w_NK.to(at::kFloat) * column_scale_K).to(w_NK.scalar_type()).contiguous()
          : w_NK;
  WeightScales scales;
  scales.amax = amax_of_tensor(context_of(scaled_NK, pool), matrix_of(scaled_NK)).value * ratio;
  if (ratio != 1.0f && !uses_tensor_amax(w_NK.size(0), w_NK.size(1))) {
    scales.block_amax =
        block_amax_of(scaled_NK, block() > 0 ? block() : w_NK.size(1), pool) * ratio;
  }
  return unpack(pack(scaled_NK, scales, Numerics::kCpu, pool), w_NK.scalar_type(), pool);
}

std::shared_ptr<const Codec> codec_for(const QuantizerSequence& weight, const InputFormat& input,
                                       const std::string& module) {
  if (!weight.enabled()) return nullptr;
  for (const MakeCodec& make : kCodecs) {
    if (auto codec = make(weight, input)) return codec;
  }
  throw UsageError(concat("the recipe gives '", module, "' weights with inputs of kind ",
                          name_of(input.kind),
                          ", a combination that no format stores (halftone formats lists them)"));
}

at::Tensor scales_of_amaxes(const at::Tensor& amax, float bound, DType dtype, Numerics numerics) {
  at::Tensor scales = amax.to(at::kCPU, at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  float* values = scales.mutable_data_ptr<float>();
  for (int64_t i = 0; i < scales.numel(); ++i) {
    values[i] = divide_by_constant(sanitize_amax(values[i], bound, dtype), bound, numerics);
  }
  return scales;
}

at::Tensor block_amax_of(const at::Tensor& w_NK, int64_t block, ThreadPool* pool) {
  at::Tensor amax = at::empty({w_NK.size(0), (w_NK.size(1) + block - 1) / block},
                              w_NK.options().dtype(at::kFloat));
  amax_of_blocks(context_of(w_NK, pool), matrix_of(w_NK), block, amax.mutable_data_ptr<float>());
  return amax;
}

}  // namespace halftone
