#include <ATen/ATen.h>

#include "core/error.h"
#include "core/log.h"
#include "formats/codecs.h"
#include "formats/tensor_bridge.h"
#include "kernels/nvfp4.h"
#include "kernels/scale.h"

namespace halftone {
namespace {

constexpr int kBlock = 16;

bool is_nvfp4(const QuantizerSequence& sequence) {
  const Quantizer& quantizer = sequence.only();
  return sequence.stages.size() == 1 && quantizer.is_calibrated() && quantizer.num_bits == kE2M1 &&
         quantizer.block_sizes == BlockSizes{kBlock, 0, true, kE4M3};
}

// NVFP4, dynamic kind: E2M1 in blocks of 16 with E4M3 scales under one fp32 scale
// (formats-and-hf-export.md, 2.9).
class Nvfp4Codec : public Codec {
 public:
  std::string name() const override { return "nvfp4"; }

  bool matches(const LinearQuantizers& quantizers) const override {
    return is_nvfp4(quantizers.weight) && is_nvfp4(quantizers.input);
  }

  QuantAlgo algo() const override {
    const Json four_bits{
        {"dynamic", false}, {"num_bits", 4}, {"type", "float"}, {"group_size", kBlock}};
    return {"NVFP4",
            {{"group_size", kBlock}},
            {{"input_activations", four_bits}, {"weights", four_bits}}};
  }

  void check_shape(const std::string& module, int64_t out, int64_t in) const override {
    if (in % kBlock == 0) return;
    throw InputError(concat("'", module, ".weight' is [", out, ", ", in,
                            "]: NVFP4 needs the second ", "size to be a multiple of ", kBlock,
                            "; leave it out with a --recipe that disables '", module, ".*'"));
  }

  std::vector<TensorSpec> tensors(int64_t out, int64_t in, bool input_quantized) const override {
    std::vector<TensorSpec> specs{{"weight", DType::kU8, {out, in / 2}},
                                  {"weight_scale", DType::kF8E4M3, {out, in / kBlock}},
                                  {"weight_scale_2", DType::kF32, {}}};
    if (input_quantized) specs.push_back({"input_scale", DType::kF32, {}});
    return specs;
  }

  bool unifies_weight_amax() const override { return true; }

  PackedLinear pack(const at::Tensor& w_NK, const LinearScales& scales, Numerics numerics,
                    ThreadPool* pool) const override {
    // A zero weight, or one so small that its scale underflows, would get NaN block scales: any
    // positive second scale gives zero codes.
    float scale_2 = divide_by_constant(scales.weight_amax, kMaxNvfp4, numerics);
    if (!(scale_2 > 0.0f)) scale_2 = divide_by_constant(1.0f, kMaxNvfp4, numerics);
    const int64_t out = w_NK.size(0);
    const int64_t in = w_NK.size(1);
    const auto bytes = w_NK.options().dtype(at::kByte);
    PackedLinear packed;
    packed["weight"] = at::empty({out, in / 2}, bytes);
    packed["weight_scale"] = at::empty({out, in / kBlock}, bytes);
    packed["weight_scale_2"] = scalar_tensor(scale_2);
    quantize_nvfp4(context_of(w_NK, pool), matrix_of(w_NK), kBlock, scale_2,
                   packed["weight"].mutable_data_ptr<uint8_t>(),
                   packed["weight_scale"].mutable_data_ptr<uint8_t>());
    if (scales.input_amax) {
      packed["input_scale"] = scalar_tensor(divide_by_constant(
          sanitize_amax(*scales.input_amax, kMaxE2M1, scales.input_dtype), kMaxNvfp4, numerics));
    }
    return packed;
  }

  at::Tensor unpack(const PackedLinear& packed, at::ScalarType dtype,
                    ThreadPool* pool) const override {
    const at::Tensor& codes = packed.at("weight");
    const at::Tensor& block_scales = packed.at("weight_scale");
    const int64_t out = codes.size(0);
    const int64_t in = codes.size(1) * 2;
    at::Tensor w_NK = at::empty({out, in}, codes.options().dtype(dtype));
    dequantize_nvfp4(context_of(codes, pool), codes.const_data_ptr<uint8_t>(),
                     block_scales.const_data_ptr<uint8_t>(), out, in, kBlock,
                     packed.at("weight_scale_2").item<float>(), dtype_of(dtype),
                     w_NK.mutable_data_ptr());
    return w_NK;
  }

  float amax_of_input_scale(float input_scale) const override { return input_scale * kMaxNvfp4; }

  at::Tensor fake_quantize_input(const at::Tensor& x, float amax) const override {
    const at::Tensor source = x.contiguous();
    at::Tensor y = at::empty_like(source);
    fake_quantize_nvfp4(context_of(source, nullptr), matrix_of(source), amax, y.mutable_data_ptr());
    return y;
  }
};

}  // namespace

const Codec& nvfp4_codec() {
  static const Nvfp4Codec codec;
  return codec;
}

}  // namespace halftone
