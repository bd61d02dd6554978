#include <ATen/ATen.h>

#include "core/error.h"
#include "formats/codecs.h"
#include "formats/tensor_bridge.h"
#include "kernels/fp8.h"
#include "kernels/scale.h"

namespace halftone {
namespace {

bool is_calibrated_fp8(const QuantizerSequence& sequence) {
  return sequence.stages.size() == 1 && sequence.only().is_calibrated() &&
         is_fp8_per_tensor(sequence.only());
}

// FP8 E4M3, one scale per tensor (formats-and-hf-export.md, 2.3).
class Fp8Codec : public Codec {
 public:
  std::string name() const override { return "fp8"; }

  bool matches(const LinearQuantizers& quantizers) const override {
    return is_calibrated_fp8(quantizers.weight) && is_calibrated_fp8(quantizers.input);
  }

  QuantAlgo algo() const override {
    const Json eight_bits{{"dynamic", false}, {"num_bits", 8}, {"type", "float"}};
    return {"FP8", Json::object(), {{"input_activations", eight_bits}, {"weights", eight_bits}}};
  }

  void check_shape(const std::string& /*module*/, int64_t /*out*/, int64_t /*in*/) const override {}

  std::vector<TensorSpec> tensors(int64_t out, int64_t in, bool input_quantized) const override {
    std::vector<TensorSpec> specs{{"weight", DType::kF8E4M3, {out, in}},
                                  {"weight_scale", DType::kF32, {}}};
    if (input_quantized) specs.push_back({"input_scale", DType::kF32, {}});
    return specs;
  }

  bool unifies_weight_amax() const override { return false; }

  PackedLinear pack(const at::Tensor& w_NK, const LinearScales& scales, Numerics numerics,
                    ThreadPool* pool) const override {
    // A zero weight, or one so small that its scale underflows, would get NaN codes.
    float scale = divide_by_constant(scales.weight_amax, kMaxE4M3, numerics);
    if (!(scale > 0.0f)) scale = 1.0f;
    PackedLinear packed;
    packed["weight"] = at::empty(w_NK.sizes(), w_NK.options().dtype(at::kByte));
    packed["weight_scale"] = scalar_tensor(scale);
    quantize_fp8(context_of(w_NK, pool), matrix_of(w_NK), scale, numerics,
                 packed["weight"].mutable_data_ptr<uint8_t>());
    if (scales.input_amax) {
      packed["input_scale"] = scalar_tensor(divide_by_constant(
          sanitize_amax(*scales.input_amax, kMaxE4M3, scales.input_dtype), kMaxE4M3, numerics));
    }
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

  float amax_of_input_scale(float input_scale) const override { return input_scale * kMaxE4M3; }

  at::Tensor fake_quantize_input(const at::Tensor& x, float amax) const override {
    const at::Tensor source = x.contiguous();
    at::Tensor y = at::empty_like(source);
    fake_quantize_fp8(context_of(source, nullptr), matrix_of(source), amax, y.mutable_data_ptr());
    return y;
  }
};

}  // namespace

bool is_fp8_per_tensor(const Quantizer& quantizer) {
  return quantizer.num_bits == kE4M3 && !quantizer.axis && !quantizer.block_sizes;
}

const Codec& fp8_codec() {
  static const Fp8Codec codec;
  return codec;
}

}  // namespace halftone
