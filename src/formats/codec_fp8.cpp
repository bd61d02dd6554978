#include <ATen/ATen.h>

#include "formats/codecs.h"
#include "formats/tensor_bridge.h"
#include "kernels/fp8.h"
#include "kernels/scale.h"

namespace halftone {
namespace {

// FP8 E4M3, one scale per tensor (formats-and-hf-export.md, 2.3).
class Fp8Codec : public Codec {
 public:
  std::string name() const override { return "fp8"; }

  std::vector<TensorSpec> tensors(int64_t out, int64_t in) const override {
    return {{"weight", DType::kF8E4M3, {out, in}}, {"weight_scale", DType::kF32, {}}};
  }

  bool uses_tensor_amax(int64_t /*out*/, int64_t /*in*/) const override { return true; }
  bool unifies_groups() const override { return false; }

  PackedLinear pack(const at::Tensor& w_NK, const WeightScales& scales, Numerics numerics,
                    ThreadPool* pool) const override {
    // A zero weight, or one so small that its scale underflows, would get NaN codes.
    float scale = divide_by_constant(scales.amax, kMaxE4M3, numerics);
    if (!(scale > 0.0f)) scale = 1.0f;
    PackedLinear packed;
    packed["weight"] = at::empty(w_NK.sizes(), w_NK.options().dtype(at::kByte));
    packed["weight_scale"] = scalar_tensor(scale);
    quantize_fp8(context_of(w_NK, pool), matrix_of(w_NK), scale, numerics,
                 packed["weight"].mutable_data_ptr<uint8_t>());
    return packed;
  }

  at::Tensor unpack(const PackedLinear& packed, at::ScalarType dtype,
                    ThreadPool* pool) const override {
    const at::Tensor& codes = packed.at("weight");
    at::Tensor w_NK = at::empty(codes.sizes(), codes.options().dtype(dtype));
    dequantize_fp8(context_of(codes, pool), codes.const_data_ptr<uint8_t>(), codes.size(0),
                   codes.size(1), packed.at("weight_scale").item<float>(), dtype_of(dtype),
                   w_NK.mutable_data_ptr());
    return w_NK;
  }
};

}  // namespace

std::shared_ptr<const Codec> make_fp8_codec() {
  static const auto codec = std::make_shared<const Fp8Codec>();
  return codec;
}

std::shared_ptr<const Codec> match_fp8(const QuantizerSequence& weight, const InputFormat& input) {
  const Quantizer& only = weight.only();
  const bool ours = weight.stages.size() == 1 && only.is_calibrated() && only.num_bits == kE4M3 &&
                    !only.axis && !only.block_sizes && input.kind == InputKind::kFp8;
  return ours ? make_fp8_codec() : nullptr;
}

}  // namespace halftone
